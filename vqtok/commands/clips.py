"""The clips that arguments name, one at a time, through a tokenizer of clips."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vqtok.commands.progress import progress
from vqtok.commands.sources import Failures, named_once
from vqtok.errors import ImageError, LoadError
from vqtok.movies import is_rate
from vqtok.pictures import VIDEOS
from vqtok.preprocess import Preprocess
from vqtok.sources import open_source
from vqtok.sources.clips import FrameFolder
from vqtok.sources.files import PICTURES, ends_with, tree
from vqtok.streams import ClipReader, open_clip
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

__all__ = ["Clip", "EncodedClip", "encode_clip", "encoded_clips", "find_clips", "frames_of"]


class Clip(NamedTuple):
    """A clip to read, and the key that stands for it in the output: a file, or those of frames."""

    key: str
    data: Path | bytes | list[Path]

    @property
    def name(self) -> str:
        """What messages call it."""
        if isinstance(self.data, bytes):
            return "standard input"
        return f"'{self.data[0].parent if isinstance(self.data, list) else self.data}'"

    @property
    def files(self) -> list[Path]:
        """What is read; nothing of standard input."""
        if isinstance(self.data, bytes):
            return []
        return self.data if isinstance(self.data, list) else [self.data]

    def open(self, settings: Preprocess) -> ClipReader:
        """From the first frame on, each time."""
        return open_clip(self.data, name=self.name, background=settings.background)


class EncodedClip(NamedTuple):
    """A clip, its codes, and frames a second, where it says so.

    A rate that no video is written with, as some damaged files have it, counts as none.
    """

    clip: Clip
    codes: Codes
    fps: float | None


def find_clips(arguments: list[str]) -> list[Clip]:
    """Files as given, folders searched for videos or else numbered frames, - standard input."""
    found = [clip for argument in arguments for clip in _find(argument)]
    return named_once(found, "clips")


def _find(argument: str) -> list[Clip]:
    path = Path(argument)
    if argument == "-":
        return [Clip("stdin", sys.stdin.buffer.read())]
    if not path.is_dir():
        return [Clip(path.name, path)]
    _check_numbered(path)
    source = open_source(path, kind="clips")
    samples = [source[index] for index in range(len(source))]
    return [
        Clip(each.key, each.data.paths if isinstance(each.data, FrameFolder) else each.data.source)
        for each in samples
    ]


def _check_numbered(folder: Path) -> None:
    """Raises where its pictures are no frames, which are what a source of clips takes them for."""
    names = tree(folder).names
    if any(ends_with(name, VIDEOS) for name in names):
        return
    for name in names:
        path = folder / name
        if ends_with(name, PICTURES) and not re.search(r"[0-9]", path.stem):
            raise LoadError(
                f"'{path}' has no number in its name: where the tokenizer takes clips, the "
                "pictures of a folder are the frames of one clip, in the order of their numbers. "
                "To make a clip of each picture, name the pictures one by one"
            )


def encode_clip(tok: VisualTokenizer, clip: Clip, seen: Callable[[int], None]) -> EncodedClip:
    """One clip, a few frames at a time; `seen` is called with 1 for each."""
    reader = clip.open(tok.settings)
    codes = tok.encode_clip(reader.watched(seen))
    return EncodedClip(clip, codes, reader.fps if is_rate(reader.fps) else None)


def encoded_clips(
    tok: VisualTokenizer,
    clips: list[Clip],
    failures: Failures,
    label: str,
    *,
    to_stdout: bool = True,
) -> Iterator[EncodedClip]:
    """Each clip in the given order; `label` and `to_stdout` are for `progress`, by frames."""
    total = sum(frames_of(clip, tok.settings) for clip in clips)
    with progress(total, label, to_stdout=to_stdout) as advance:
        for clip in clips:
            try:
                done = encode_clip(tok, clip, advance)
            except (ImageError, LoadError) as error:
                failures.add(error)
            else:
                yield done


def frames_of(clip: Clip, settings: Preprocess) -> int:
    """For a bar: how many frames there are; 0 where nobody looks, or it cannot be read."""
    if not sys.stderr.isatty():
        return 0
    try:
        return clip.open(settings).length or 0
    except (ImageError, LoadError):
        return 0

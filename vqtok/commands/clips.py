"""The clips that arguments name, one at a time, through a tokenizer of clips."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vqtok.commands.progress import progress, say
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

__all__ = [
    "Clip",
    "EncodedClip",
    "Padding",
    "encode_clip",
    "encoded_clips",
    "find_clips",
    "frames_of",
]


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
    """Each clip in the given order; `label` and `to_stdout` are for `progress`, by frames.

    Ends with a line on what was repeated.
    """
    total = sum(frames_of(clip, tok.settings) for clip in clips)
    padding = Padding(tok)
    with progress(total, label, to_stdout=to_stdout) as advance:
        for clip in clips:
            try:
                done = encode_clip(tok, clip, advance)
            except (ImageError, LoadError) as error:
                failures.add(error)
            else:
                padding.add(done)
                yield done
    padding.say()


class Padding:
    """Clips whose last frame or edges were repeated to fill tokens, for lines when a run ends."""

    def __init__(self, tok: VisualTokenizer) -> None:
        self.tok = tok
        self.kinds: list[bool] = []  # of each whether it is a clip, and no photograph
        # Key; what became of it; what was repeated, for one that is alone.
        self.padded: list[tuple[str, str, str]] = []
        self.extended: list[tuple[str, str, str]] = []

    def add(self, one: EncodedClip) -> None:
        """A clip that was encoded."""
        key, data = one.clip.key, one.clip.data
        self.kinds.append(not (isinstance(data, Path) and ends_with(data.name, PICTURES)))
        frames, *sides = map(int, one.codes.sizes[0])
        plan = self.tok.plan_frames(frames)
        if plan.padded > frames:
            shown = f"{frames} frame{'s are' if frames > 1 else ' is'} encoded as {plan.padded}"
            added = plan.padded - frames
            often, them = ("once", "that") if added == 1 else (f"{added} times", "them")
            said = f"the last repeated {often}; decode cuts {them} off again"
            self.padded.append((key, shown, said))
        stride = self.tok.settings.stride
        filled = [-(-side // stride) * stride for side in sides]
        if filled != sides:
            shown = f"{sides[0]} x {sides[1]} pixels are encoded as {filled[0]} x {filled[1]}"
            said = "the edges repeated; decode cuts them off again"
            self.extended.append((key, shown, said))

    def say(self) -> None:
        """Of one clip what was repeated, of several how many it was done to."""
        for found, what in ((self.padded, "last frame"), (self.extended, "edges")):
            if len(self.kinds) == 1:
                for key, shown, often in found:
                    say(f"{key}: {shown}, {often}")
            elif found:
                key, shown, _ = found[0]
                say(
                    f"{len(found)} of {len(self.kinds)} {self._what} were padded by repeating the "
                    f"{what} (of {key}, {shown}); decode cuts that off again"
                )

    @property
    def _what(self) -> str:
        if all(self.kinds):
            return "clips"
        return "clips and pictures" if any(self.kinds) else "pictures"


def frames_of(clip: Clip, settings: Preprocess) -> int:
    """For a bar: how many frames there are; 0 where nobody looks, or it cannot be read."""
    if not sys.stderr.isatty():
        return 0
    try:
        return clip.open(settings).length or 0
    except (ImageError, LoadError):
        return 0

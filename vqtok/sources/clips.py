"""Clips: video files, through PyAV, and folders of numbered frames.

Frames are exact: the n-th is the n-th that a decoder gives from the start of the file, whatever
seeking does. So the time stamps of all packets are listed first, without decoding; a read begins
at the last key frame before the first frame asked for, or earlier if what comes is too late. Files
whose stamps cannot be trusted (some .avi) are decoded from their start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import ImageError, InputError, LoadError
from vqtok.pictures import Pixels, load_image
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import PICTURES, Tree, check_unique, ends_with, require
from vqtok.sources.folder import label_of
from vqtok.sources.metadata import described

__all__ = ["Clips", "FrameFolder", "Video"]

VIDEOS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
INDEXES = 1024  # of video files, that a process keeps


class Video:
    """The frames of a video file, turned as the file says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def length(self) -> int:
        """How many frames there are."""
        return _index_of(self.path).length

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... -> (count, H, W, 3) uint8."""
        index = _index_of(self.path)
        wanted = _wanted(start, count, stride, index.length, self.path)
        read = _by_stamp if len(index.stamps) else _by_number
        return _stacked(read(self.path, index, wanted), self.path)


class FrameFolder:
    """Pictures of one size, in the order of the last number in their names."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    @property
    def length(self) -> int:
        """How many frames there are."""
        return len(self.paths)

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... -> (count, H, W, 3) uint8."""
        wanted = _wanted(start, count, stride, self.length, self.paths[0].parent)
        return _stacked([load_image(self.paths[n]) for n in wanted], self.paths[0].parent)


@SOURCES.register("clips")
class Clips:
    """Video files, or else the folders in which pictures lie; the name below the path is the key.

    Columns are those of a metadata.jsonl or metadata.csv, and `label`, the name of the folder that
    the clip lies in, where that is not the path itself. A clip's `length` is found when it is asked
    for. Frames carry a number in their names; gaps in the numbers are not filled.
    """

    suffixes: ClassVar[tuple[str, ...]] = VIDEOS
    is_video = True

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._clips: list[Video | FrameFolder] = []
        self._columns: dict[str, dict[str, Any]] = {}
        self.keys: list[str] = []
        for tree in trees:
            found = _clips(tree)
            self.keys += found
            self._clips += found.values()
            self._columns.update(described(tree, found))
        check_unique(self.keys, lambda index: f"'{_path(self._clips[index])}'")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is a `Video` or a `FrameFolder`."""
        key = self.keys[index]
        return Sample(key, self._clips[index], label_of(key) | self._columns.get(key, {}))


def _path(clip: Video | FrameFolder) -> Path:
    return clip.path if isinstance(clip, Video) else clip.paths[0].parent


def _clips(tree: Tree) -> dict[str, Video | FrameFolder]:
    """Key -> clip."""
    videos = [name for name in tree.names if ends_with(name, VIDEOS)]
    frames = [name for name in tree.names if ends_with(name, PICTURES)]
    if videos and frames:
        raise LoadError(
            f"'{tree.path}' holds video files, such as '{videos[0]}', and pictures, such as "
            f"'{frames[0]}', which may be frames; keep them in separate folders"
        )
    if videos:
        require("av", "vqtok[video]", f"'{tree.root / videos[0]}'")
        return {name: Video(tree.root / name) for name in videos}
    folders: dict[str, dict[int, str]] = {}
    for name in frames:
        folder, _, file = name.rpartition("/")
        numbers = re.findall(r"[0-9]+", file.rpartition(".")[0])
        if not numbers:
            raise LoadError(f"the frame '{tree.root / name}' has no number in its name")
        other = folders.setdefault(folder, {}).setdefault(int(numbers[-1]), name)
        if other != name:
            raise LoadError(f"two frames have one number: '{other}' and '{name}' in '{tree.path}'")
    return {
        folder or tree.root.name: FrameFolder([tree.root / names[n] for n in sorted(names)])
        for folder, names in folders.items()
    }


def _wanted(start: int, count: int, stride: int, length: int, path: Path) -> range:
    """The numbers of the frames asked for."""
    wanted = range(start, start + count * stride, stride) if stride > 0 else range(0)
    if start < 0 or len(wanted) < 1 or wanted[-1] >= length:
        raise InputError(
            f"'{path}' has {length} frames; it cannot give {count} from {start} on, {stride} apart"
        )
    return wanted


def _stacked(frames: Sequence[Pixels], path: Path) -> Pixels:
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width, _ in sorted(sizes)[:2])
        raise ImageError(f"'{path}' has frames of several sizes: {shown}")
    return np.stack(frames)


class _Index(NamedTuple):
    """What a video file says without being decoded.

    length  frames
    stamps  the time stamp of each, rising; empty where the file's cannot be trusted
    starts  those of key frames, rising
    """

    length: int
    stamps: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


def _index_of(path: Path) -> _Index:
    try:
        state = path.stat()
    except OSError as error:
        raise LoadError(f"'{path}' cannot be read: {error.strerror}") from error
    return _index(path, state.st_mtime_ns, state.st_size)


@lru_cache(INDEXES)
def _index(path: Path, changed: int, size: int) -> _Index:
    with _opened(path) as (container, stream):
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
        stamps = [p.pts for p in packets]
        starts = sorted(p.pts for p in packets if p.is_keyframe and p.pts is not None)
        reorders = bool(stream.codec_context.has_b_frames)
    exact = len(set(stamps)) == len(stamps) and None not in stamps and bool(starts)
    # Stamps that never step back, of a codec that reorders, count packets instead of frames.
    if exact and not (reorders and stamps == sorted(stamps)):
        return _Index(len(stamps), np.array(sorted(stamps), np.int64), np.array(starts, np.int64))
    none = np.zeros(0, np.int64)
    return _Index(sum(1 for _ in _decoded(path)), none, none)


def _by_stamp(path: Path, index: _Index, wanted: range) -> list[Pixels]:
    """From a key frame on; where seeking lands too late, from the one before, then the start."""
    stamps = index.stamps[np.array(wanted)].tolist()
    before = index.starts[index.starts <= stamps[0]]
    for begin in (*before[:-3:-1].tolist(), None):
        found = _collected(_decoded(path, begin), stamps)
        if found is not None:
            return found
    raise ImageError(f"'{path}' lists frames that do not come when it is decoded")


def _collected(frames: Iterable[Any], stamps: Sequence[int]) -> list[Pixels] | None:
    """The frames with these time stamps, or None where they are not all there."""
    found, missing = dict[int, Pixels](), set(stamps)
    for number, frame in enumerate(frames):
        if number == 0 and frame.pts is not None and frame.pts > stamps[0]:
            return None
        if frame.pts in missing:
            found[frame.pts] = _pixels(frame)
            missing.remove(frame.pts)
        if not missing:
            return [found[stamp] for stamp in stamps]
    return None


def _by_number(path: Path, index: _Index, wanted: range) -> list[Pixels]:
    """From the start, counting."""
    frames = zip(range(wanted[-1] + 1), _decoded(path), strict=False)
    return [_pixels(frame) for number, frame in frames if number in wanted]


def _decoded(path: Path, begin: int | None = None) -> Iterator[Any]:
    """PyAV's frames in the order they are shown, from about a time stamp on."""
    with _opened(path) as (container, stream):
        stream.codec_context.thread_count = 1  # workers share the cores
        if begin is not None:
            container.seek(begin, stream=stream, backward=True)
        yield from container.decode(stream)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file's container and its first video stream."""
    av = require("av", "vqtok[video]", f"'{path}'")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"'{path}' has no pictures in it, only other streams")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        reason = error.strerror or error
        raise ImageError(f"'{path}' is no video, broken or cut short: {reason}") from error


def _pixels(frame: Any) -> Pixels:
    """One of PyAV's frames -> (H, W, 3) uint8."""
    clear = any(component.is_alpha for component in frame.format.components)
    pixels = load_image(frame.to_ndarray(format="rgba" if clear else "rgb24"))
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))

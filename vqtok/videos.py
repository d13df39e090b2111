"""Video files, through PyAV: exact frames, by number or one after another, in bounded memory.

The n-th frame is the n-th that a decoder gives from the start of the file, whatever seeking does;
each counts once, however long it is shown. So the time stamps of all packets are listed first,
without decoding; a read begins at the last key frame before the first frame asked for, or earlier
if what comes is too late. Files whose stamps cannot be trusted (some .avi) are decoded from their
start. A frame that the decoder calls damaged is an error, and so is a file that was cut short,
where its headers tell (`vqtok.truncation`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from vqtok.errors import ImageError, InputError, LoadError, VqtokError
from vqtok.extras import require
from vqtok.pictures import MAX_PIXELS, WHITE, Pixels, load_image
from vqtok.truncation import check_complete

__all__ = ["Openable", "Video", "need_av", "stacked", "wanted_frames"]

CLOSE = 1e-3  # seconds that a stated time may be after the frame it means, as it was rounded
INDEXES = 1024  # of video files, that a process keeps
# Decoders that give what shows through, of streams that have it; FFmpeg's own drop it.
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class Openable(Protocol):
    """A file elsewhere, which can be opened where a path can."""

    def open(self, mode: str = "rb") -> IO[bytes]:
        """For reading in binary; it can seek."""
        ...

    def __hash__(self) -> int: ...


class Video:
    """The frames of a video file, turned as the file says.

    source      a path, the bytes of a file, a file open for reading in binary that can seek, or
                what opens one
    name        what errors call it; by default its path, or "the clip"
    background  RGB, what shows through where a frame is transparent
    """

    def __init__(
        self,
        source: Path | Openable | bytes | IO[bytes],
        *,
        name: str | None = None,
        background: tuple[int, int, int] = WHITE,
    ) -> None:
        self.source = source
        self.name = name or (f"'{source!s}'" if _can_open(source) else "the clip")
        self.background = background
        self._own: _Index | None = None

    @property
    def length(self) -> int:
        """How many frames there are, which takes reading the file, without decoding it."""
        return self._index().length

    @property
    def fps(self) -> float | None:
        """Frames a second, on average; None where the file does not tell."""
        with _opened(self) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate
        return float(rate) if rate else None

    def number_at(self, seconds: float) -> int:
        """The first frame that is shown at a time or later, counted from when the first is.

        At the end, or where none is, it is the number of frames.
        """
        index = self._index()
        if len(index.stamps):
            shown = (index.stamps - index.stamps[0]) * index.tick
            return int(np.searchsorted(shown, seconds - CLOSE))
        fps = self.fps
        if not fps:
            raise ImageError(f"{self.name} does not say when its frames are shown")
        return min(index.length, math.ceil((seconds - CLOSE) * fps))

    def __iter__(self) -> Iterator[Pixels]:
        """All frames in order, (H, W, 3) uint8 each."""
        self._check_complete()
        return map(self._pixels, self._decoded())

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... -> (count, H, W, 3) uint8."""
        index = self._index()
        wanted = wanted_frames(start, count, stride, index.length, self.name)
        read = self._by_stamp if len(index.stamps) else self._by_number
        return stacked(read(index, wanted), self.name)

    def _index(self) -> _Index:
        """Those of paths are kept for all, as sources make a new `Video` for each look."""
        if not _can_open(self.source):
            self._own = self._own or _index(self)
            return self._own
        if not isinstance(self.source, Path):
            return _kept_index(cast("Openable", self.source), self.name, 0, 0)
        try:
            state = self.source.stat()
        except OSError as error:
            raise LoadError(f"{self.name} cannot be read: {error.strerror}") from error
        return _kept_index(self.source, self.name, state.st_mtime_ns, state.st_size)

    def _check_complete(self) -> None:
        source: Any = self.source
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        try:
            with source.open("rb") if _can_open(source) else nullcontext(source) as file:
                check_complete(file, self.name)
        except VqtokError:
            raise
        except OSError as error:
            raise LoadError(f"{self.name} cannot be read: {error.strerror}") from error

    def _by_stamp(self, index: _Index, wanted: range) -> list[Pixels]:
        """From a key frame on; where that is too late, from the one before, then the start."""
        stamps = index.stamps[np.array(wanted)].tolist()
        before = index.starts[index.starts <= stamps[0]]
        for begin in (*before[:-3:-1].tolist(), None):
            found = self._collected(self._decoded(begin), stamps)
            if found is not None:
                return found
        raise ImageError(f"{self.name} lists frames that do not come when it is decoded")

    def _collected(self, frames: Iterable[Any], stamps: Sequence[int]) -> list[Pixels] | None:
        """The frames with these time stamps, or None where they are not all there."""
        found, missing = dict[int, Pixels](), set(stamps)
        for number, frame in enumerate(frames):
            if number == 0 and frame.pts is not None and frame.pts > stamps[0]:
                return None
            if frame.pts in missing:
                found[frame.pts] = self._pixels(frame)
                missing.remove(frame.pts)
            if not missing:
                return [found[stamp] for stamp in stamps]
        return None

    def _by_number(self, index: _Index, wanted: range) -> list[Pixels]:
        """From the start, counting."""
        frames = zip(range(wanted[-1] + 1), self._decoded(), strict=False)
        return [self._pixels(frame) for number, frame in frames if number in wanted]

    def _decoded(self, begin: int | None = None) -> Iterator[Any]:
        """PyAV's frames in the order they are shown, from about a time stamp on."""
        with _opened(self) as (container, stream):
            stream.codec_context.thread_count = 1  # workers share the cores
            if begin is not None:
                container.seek(begin, stream=stream, backward=True)
            decoder = self._decoder(stream)
            for packet in container.demux(stream):
                yield from decoder.decode(packet)

    def _decoder(self, stream: Any) -> Any:
        """What makes frames of packets: the stream itself, or a decoder that knows alpha."""
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        own = WITH_ALPHA.get(stream.codec_context.name)
        if own is None or tags.get("alpha_mode") != "1":
            return stream
        av = need_av(self.name)
        if own not in av.codecs_available:
            raise ImageError(
                f"{self.name} is transparent in places, and the FFmpeg in this PyAV has no {own} "
                "to read that with"
            )
        decoder = av.CodecContext.create(own, "r")
        decoder.thread_count = 1
        return decoder

    def _pixels(self, frame: Any) -> Pixels:
        """One of PyAV's frames -> (H, W, 3) uint8."""
        if frame.is_corrupt:
            raise ImageError(f"{self.name} is broken or cut short: a frame of it is damaged")
        clear = any(component.is_alpha for component in frame.format.components)
        raw = frame.to_ndarray(format="rgba" if clear else "rgb24")
        pixels = load_image(raw, background=self.background, name=self.name)
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def need_av(name: str, doing: str = "read") -> Any:
    """PyAV, or an error that says what it is needed for."""
    return require("av", "vqtok[video]", f"{name} is {doing}")


def wanted_frames(start: int, count: int, stride: int, length: int, name: str) -> range:
    """The numbers of the frames asked for; an error where they are not all there."""
    wanted = range(start, start + count * stride, stride) if stride > 0 else range(0)
    if start < 0 or len(wanted) < 1 or wanted[-1] >= length:
        raise InputError(
            f"{name} has {length} frames; it cannot give {count} from {start} on, {stride} apart"
        )
    return wanted


def stacked(frames: Sequence[Pixels], name: str) -> Pixels:
    """Frames (H, W, 3) of one size -> (T, H, W, 3)."""
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width, _ in sorted(sizes)[:2])
        raise ImageError(f"{name} has frames of several sizes: {shown}")
    return np.stack(frames)


class _Index(NamedTuple):
    """What a video file says without being decoded.

    length  frames
    stamps  the time stamp of each, rising; empty where the file's cannot be trusted
    starts  those of key frames, rising
    tick    the seconds that a time stamp counts
    """

    length: int
    stamps: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    tick: float


@lru_cache(INDEXES)
def _kept_index(path: Path | Openable, name: str, changed: int, size: int) -> _Index:
    return _index(Video(path, name=name))


def _index(video: Video) -> _Index:
    video._check_complete()
    stamps: list[int | None] = []
    keys: list[int] = []
    with _opened(video) as (container, stream):
        for packet in container.demux(stream):  # one by one, for each has its data
            if not packet.size or packet.is_discard:
                continue
            if packet.is_corrupt:
                raise ImageError(f"{video.name} is broken or cut short: a part of it is damaged")
            stamps.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
        reorders = bool(stream.codec_context.has_b_frames)
        tick = float(stream.time_base or 0)
    known = [stamp for stamp in stamps if stamp is not None]
    exact = len(set(known)) == len(stamps) and bool(keys)
    # Stamps that never step back, of a codec that reorders, count packets instead of frames.
    if exact and not (reorders and known == sorted(known)):
        shown, starts = (np.array(sorted(each), np.int64) for each in (known, keys))
        return _Index(len(known), shown, starts, tick)
    none = np.zeros(0, np.int64)
    return _Index(sum(1 for _ in video._decoded()), none, none, tick)


@contextmanager
def _opened(video: Video) -> Iterator[tuple[Any, Any]]:
    """A file's container and its first video stream."""
    av = need_av(video.name)
    try:
        with av.open(_file(video.source)) as container:
            if not container.streams.video:
                raise ImageError(f"{video.name} has no pictures in it, only other streams")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ImageError(
                    f"{video.name} cannot be read: the FFmpeg in this PyAV has no decoder for its "
                    "pictures"
                )
            if stream.width * stream.height > MAX_PIXELS:
                raise ImageError(
                    f"{video.name} is {stream.width} wide and {stream.height} high; at most "
                    f"{MAX_PIXELS} pixels a frame are taken"
                )
            yield container, stream
    except av.FFmpegError as error:
        reason = error.strerror or error
        raise ImageError(f"{video.name} is no video, broken or cut short: {reason}") from error


def _can_open(source: Any) -> bool:
    """Whether it names a file and is none."""
    return hasattr(source, "open")


def _file(source: Path | Openable | bytes | IO[bytes]) -> str | IO[bytes]:
    """What PyAV opens: a new reader at the start each time."""
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if _can_open(source):
        return cast("Openable", source).open("rb")
    opened = cast("IO[bytes]", source)
    opened.seek(0)
    return opened

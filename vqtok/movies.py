"""Frames -> a video file, one frame after another, so that memory holds a few.

.mp4   H.264, 4:2:0: plays everywhere. Its sides are even: an odd one gets its last row or column
       twice, so the film is one pixel larger than the frames
.webm  VP9, 4:2:0, any size
.mkv   FFV1, RGB, without loss: what a program reads again
.gif   256 colours a frame, at most 50 frames a second; needs no PyAV

All have a constant rate and no sound. Colours of the first two are BT.601, and say so.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import numpy as np
from PIL import Image

from vqtok.errors import ConfigError, ImageError, InputError, LoadError
from vqtok.files import whole
from vqtok.pictures import MAX_SIDE, Pixels
from vqtok.videos import need_av

__all__ = ["FASTEST", "FPS", "MOVIES", "SLOWEST", "MovieWriter", "is_rate", "write_movie"]

FPS = 25.0  # where a clip does not say
MOVIES = (".gif", ".mkv", ".mp4", ".webm")
SLOWEST, FASTEST = 0.01, 1000.0  # frames a second
# FFmpeg's numbers for the matrix of BT.601, and for values from 16 to 235.
BT601, LIMITED = 6, 1


class _Codec(NamedTuple):
    """What FFmpeg calls a kind of file."""

    container: str
    codec: str
    pixel_format: str
    options: dict[str, str]


CODECS = {
    ".mp4": _Codec("mp4", "libx264", "yuv420p", {"crf": "18"}),
    ".webm": _Codec(
        "webm", "libvpx-vp9", "yuv420p", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}
    ),
    ".mkv": _Codec("matroska", "ffv1", "bgr0", {}),
}


def write_movie(
    frames: Iterable[Pixels],
    file: str | os.PathLike[str] | IO[bytes],
    *,
    fps: float | None = None,
    kind: str | None = None,
) -> int:
    """Writes frames, (H, W, 3) uint8 each and of one size; returns how many there were.

    file  a path, which is written beside its place and moved there when it is done; or a file open
          for writing in binary that can seek
    fps   frames a second, `FPS` where None
    kind  one of `MOVIES`; by default the ending of the path
    """
    if isinstance(file, str | os.PathLike):
        kind = kind or os.path.splitext(file)[1].lower()
        _check(kind, fps, f"'{os.fspath(file)}'")
        if Path(file).is_dir() or not Path(file).parent.is_dir():
            raise LoadError(f"a video is a file in a folder that exists; got '{os.fspath(file)}'")
        with whole(Path(file)) as target:
            return write_movie(frames, target, fps=fps, kind=kind)
    with MovieWriter(file, fps=fps, kind=kind) as movie:
        for frame in frames:
            movie.push(frame)
        return movie.finish()


class MovieWriter:
    """`write_movie` for frames that are handed in one by one; a context manager.

    count  frames so far
    """

    def __init__(
        self, file: IO[bytes], *, fps: float | None = None, kind: str | None = None
    ) -> None:
        _check(kind, fps, "the video")
        # 30000/1001 is common.
        rate = Fraction(FPS if fps is None else float(fps)).limit_denominator(1001)
        codec = CODECS.get(str(kind))
        self.count = 0
        self._shape: tuple[int, ...] = ()
        self._kind = _Gif(file, rate) if codec is None else _Film(file, rate, codec)

    def push(self, frame: Pixels) -> None:
        """The next frame, (H, W, 3) uint8."""
        _check_frame(frame, self.count, self._shape)
        self._shape = frame.shape
        self._kind.push(frame)
        self.count += 1

    def finish(self) -> int:
        """There is no more; returns how many there were."""
        if not self.count:
            raise ImageError("a video has at least one frame; got none")
        self._kind.finish()
        return self.count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._kind.close()


def is_rate(fps: Any) -> bool:
    """Whether a video can have so many frames a second."""
    number = isinstance(fps, Real) and not isinstance(fps, bool)
    return number and bool(SLOWEST <= fps <= FASTEST)


def _check(kind: str | None, fps: float | None, name: str) -> None:
    if kind not in MOVIES:
        raise InputError(f"{name} cannot be written as {kind!r}; videos are {', '.join(MOVIES)}")
    if fps is not None and not is_rate(fps):
        raise InputError(f"a clip has {SLOWEST} to {FASTEST} frames a second; got fps={fps!r}")
    if kind in CODECS:
        need_av(name, "written")


def _check_frame(frame: Pixels, number: int, shape: tuple[int, ...]) -> None:
    """Raises for what is no frame, or has another shape than the first."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise ImageError(
            f"frames are uint8 arrays (H, W, 3); frame {number} is {frame.dtype} {frame.shape}"
        )
    if not frame.size or max(frame.shape) > MAX_SIDE:
        raise ImageError(
            f"frame {number} is {frame.shape[1]} wide and {frame.shape[0]} high; a side has 1 to "
            f"{MAX_SIDE} pixels"
        )
    if shape and frame.shape != shape:
        raise ImageError(f"frame {number} has the shape {frame.shape}, the first {shape}")


class _Film:
    """Through PyAV."""

    def __init__(self, file: IO[bytes], rate: Fraction, codec: _Codec) -> None:
        self._av = need_av("the video", "written")
        if codec.codec not in self._av.codecs_available:
            raise ConfigError(
                f"the FFmpeg in this PyAV cannot write {codec.codec}; take another kind"
            )
        self._codec = codec
        self._sized = False
        with self._told():
            self._container = self._av.open(file, "w", format=codec.container)
            self._stream = self._container.add_stream(
                codec.codec, rate=rate, options=dict(codec.options)
            )
            self._stream.pix_fmt = codec.pixel_format

    def push(self, frame: Pixels) -> None:
        stream = self._stream
        with self._told():
            even = _even(frame) if self._codec.container == "mp4" else frame
            if not self._sized:
                stream.height, stream.width = even.shape[:2]
                self._sized = True
            self._container.mux(stream.encode(_converted(self._av, stream, even)))

    def finish(self) -> None:
        with self._told():
            self._container.mux(self._stream.encode())
            self._container.close()

    def close(self) -> None:
        """Again, or in the middle of it, which is no error."""
        with suppress(self._av.FFmpegError):
            self._container.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._av.FFmpegError as error:
            reason = error.strerror or error
            raise InputError(f"{self._codec.codec} cannot write these frames: {reason}") from error


def _even(frame: Pixels) -> Pixels:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")


def _converted(av: Any, stream: Any, pixels: Pixels) -> Any:
    """A frame as the stream has them."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    if not stream.pix_fmt.startswith("yuv"):
        return frame.reformat(format=stream.pix_fmt)
    context = stream.codec_context
    context.colorspace, context.color_range = BT601, LIMITED
    return frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU601", dst_color_range="MPEG")


class _Gif:
    """Each frame in colours of its own. Pillow writes it as a picture, which is taken apart."""

    def __init__(self, file: IO[bytes], rate: Fraction) -> None:
        self._file, self._rate = file, rate
        self._count = 0

    def push(self, frame: Pixels) -> None:
        data = io.BytesIO()
        Image.fromarray(frame).quantize().save(data, "GIF", interlace=False)
        single = data.getvalue()
        count, file = self._count, self._file
        if not count:
            # The screen without colours of its own, and "play for ever".
            file.write(b"GIF89a" + single[6:10] + bytes(3))
            file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
        ends = round((count + 1) * 100 / self._rate), round(count * 100 / self._rate)
        hundredths = max(2, ends[0] - ends[1])
        file.write(b"!\xf9\x04\x04" + hundredths.to_bytes(2, "little") + b"\x00\x00")
        file.write(_with_own_colours(single))
        self._count += 1

    def finish(self) -> None:
        self._file.write(b";")

    def close(self) -> None:
        """There is nothing of its own that is open."""


def _with_own_colours(single: bytes) -> bytes:
    """A GIF file of one picture -> that picture with the file's colours."""
    table = 3 << ((single[10] & 7) + 1)
    at = 13 + table
    while single[at] == 0x21:  # what is said about the picture, in blocks with their lengths
        at += 2
        while single[at]:
            at += single[at] + 1
        at += 1
    end = len(single) - 1
    flags = bytes([0x80 | single[10] & 7])
    return single[at : at + 9] + flags + single[13 : 13 + table] + single[at + 10 : end]

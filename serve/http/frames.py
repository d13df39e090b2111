"""Clips that come in, as chunks of prepared frames: of files, of arrays, of bodies as they come.

A source holds no more than it reads at a time, however long its clip is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vqtok.pictures import Pixels
from vqtok.preprocess import placed, preprocess_frames
from vqtok.serve.http.exchange import STALLED, Exchange, Gone
from vqtok.serve.http.faults import Fault
from vqtok.serve.http.laying import as_it_is, check_area, check_pixels, planned, sides_of, told
from vqtok.serve.http.threads import in_thread
from vqtok.serve.outcomes import Late
from vqtok.streams import ClipReader, open_clip

if TYPE_CHECKING:
    from vqtok.serve.http.work import Work
    from vqtok.serve.wire import Upload

__all__ = ["FILL", "RawFrames", "ReadFrames", "Source", "wrong_length"]

FILL = 2  # times the patience that a body may take to fill one slot
FULL = 1920 * 1088  # pixels of a frame, of as many of which as may come all of a clip have no more


class Source(Protocol):
    """One clip.

    kept  height and width that come back of each frame, once a chunk is there
    """

    kept: tuple[int, int]

    async def next(self) -> Pixels | None:
        """The next chunk (T, h, w, 3), which all but the last fill; None after that one."""
        ...


class ReadFrames:
    """Of a file, or of arrays that are here; frames are decoded in threads."""

    def __init__(self, work: Work, upload: Upload) -> None:
        self.kept = (0, 0)
        self._work, self._upload, self._served = work, upload, work.served
        self._most = work.served.facts.chunk_frames(work.served.settings)
        self._frames: Iterator[Pixels] | None = None
        self._seen = 0
        self._until = 0.0

    async def next(self) -> Pixels | None:
        """See `Source.next`."""
        work, begin = self._work, time.perf_counter()
        self._until = time.monotonic() + self._served.desk.timeout
        read = (told, self._upload, self._served, self._read)
        chunk: Pixels | None = await in_thread(work.shop.threads, *read, until=self._until)
        work.decoded(time.perf_counter() - begin)
        return chunk

    def _read(self) -> Pixels | None:
        self._check_time()
        if self._frames is None:
            self._frames = self._opened()
        chunk: Pixels | None = None
        for row in range(self._most):
            frame = next(self._frames, None)
            if frame is None:
                return None if chunk is None else chunk[:row]
            if chunk is None:
                chunk = np.empty((self._most, *frame.shape), np.uint8)
            chunk[row] = frame
            self._count()
        return chunk

    def _opened(self) -> Iterator[Pixels]:
        """The frames, after all that can be known of the clip before they are read."""
        served, upload = self._served, self._upload
        source: Any = upload.data
        sides = sides_of(upload, served)
        if sides is not None:  # of what Pillow knows, before a frame is decoded to learn its size
            check_pixels(*sides, upload.name, served)
        background = served.prepares.background
        reader: ClipReader = open_clip(source, name=upload.name, background=background)
        length = reader.length or 1
        _check_frames(length, upload.name, served.settings.max_frames)
        height, width = reader.size
        self._check_time()
        check_pixels(height, width, upload.name, served)
        _check_clip(length, height, width, upload.name, served.settings.max_frames)
        self.kept = planned(height, width, upload.name, served).kept
        check_area(height, width, upload.name, served)
        return preprocess_frames(reader, served.prepares, name=upload.name)

    def _count(self) -> None:
        self._seen += 1
        _check_frames(self._seen, self._upload.name, self._served.settings.max_frames)
        self._check_time()
        if self._work.x.stopped:
            raise Gone("the client left while its clip was read")

    def _check_time(self) -> None:
        """Or those whose deadline is over would keep threads from others."""
        if time.monotonic() > self._until:
            raise Late(f"{self._upload.name} was not decoded in time")


class RawFrames:
    """Of a body that is nothing but their pixels, as these come.

    shape  (h, w, 3) of each
    count  how many there are; None where only the end of the body tells
    """

    def __init__(self, work: Work, shape: Sequence[int], count: int | None) -> None:
        served, (height, width, _) = work.served, shape
        check_area(height, width, "the picture", served)
        self._work, self._served = work, served
        self._plan = planned(height, width, "the picture", served)
        self.kept = self._plan.kept
        self._body = _Body(work.x, math.prod(shape), count)
        self._frame = np.empty(shape, np.uint8)
        self._as_it_is = as_it_is(tuple(shape), served.prepares)
        self._most = served.facts.chunk_frames(served.settings)
        self._seen = 0

    async def next(self) -> Pixels | None:
        """See `Source.next`."""
        until = time.monotonic() + FILL * self._work.x.patience
        chunk = np.empty((self._most, *self._plan.size, 3), np.uint8)
        for row in range(self._most):
            room: Any = chunk[row] if self._as_it_is else self._frame
            if not await self._body.fill(memoryview(room).cast("B"), until):
                return chunk[:row] if row else None
            self._seen += 1
            _check_frames(self._seen, "the picture", self._served.settings.max_frames)
            if not self._as_it_is:
                await in_thread(self._work.shop.threads, self._prepare, chunk[row])
        return chunk

    def _prepare(self, room: Pixels) -> None:
        room[:] = placed(self._frame, self._plan, self._served.prepares)


class _Body:
    """A body of frames of so many bytes each."""

    def __init__(self, x: Exchange, step: int, count: int | None) -> None:
        self._x, self._step = x, step
        self._expected = None if count is None else count * step
        self._left = memoryview(b"")
        self._taken = 0

    async def fill(self, room: memoryview, until: float) -> bool:
        """The next frame; whether there is one. A `Fault` where it takes too long."""
        filled = 0
        while filled < len(room):
            if not self._left:
                self._left = memoryview(await self._x.read())
                if time.monotonic() > until:
                    raise Fault("body_stalled", STALLED)
            if not self._left:
                self._check_end(filled)
                return False
            part = self._left[: len(room) - filled]
            room[filled : filled + len(part)] = part
            filled, self._left = filled + len(part), self._left[len(part) :]
        self._taken += filled
        if self._expected is not None and self._taken > self._expected:
            raise wrong_length(self._x.got, self._expected)
        return True

    def _check_end(self, filled: int) -> None:
        got = self._taken + filled
        if self._expected not in (None, got):
            raise wrong_length(self._x.got, self._expected or 0)
        if not got:
            raise Fault("empty", "the body is empty; a clip is sent in it")
        if filled:
            raise Fault(
                "truncated",
                f"the body ends within a frame: each takes {self._step:,} bytes, and the last one "
                f"has {filled:,}",
            )


def wrong_length(got: int, expected: int) -> Fault:
    """What is said of a body of raw pixels with another length than its shape."""
    if got < expected:
        return Fault("truncated", f"the pixels take {expected:,} bytes; the body has {got:,}")
    return Fault("wrong_shape", f"the pixels take {expected:,} bytes; the body has more")


def _check_frames(count: int, name: str, most: int) -> None:
    if count > most:
        raise Fault("too_many_frames", f"{name} has more than {most:,} frames")


def _check_clip(length: int, height: int, width: int, name: str, frames: int) -> None:
    most = frames * FULL
    if length * height * width > most:
        raise Fault(
            "too_many_pixels",
            f"{name} has {length} frames, {width} wide and {height} high; at most {most:,} pixels "
            "are taken of a clip",
        )

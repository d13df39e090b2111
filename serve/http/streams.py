"""Clips through a desk: at once where a slot holds them, else as a stream of chunks.

What a request holds of a longer clip is its codes, and three chunks of frames.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic, Self, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from vqtok.pictures import Pixels
from vqtok.serve.http.faults import Fault
from vqtok.serve.http.threads import in_thread
from vqtok.serve.http.work import ANSWER, row_of
from vqtok.serve.slab import Op
from vqtok.serve.wire import Failure, Row

if TYPE_CHECKING:
    from vqtok.serve.desk import Desk, Ticket
    from vqtok.serve.http.frames import Source
    from vqtok.serve.http.served import Served
    from vqtok.serve.http.work import Work
    from vqtok.serve.streams import Stream

__all__ = ["Decoding", "encoded", "gathered", "is_left", "is_long"]

AT_ONCE = 3  # chunks of one clip that are in memory
T = TypeVar("T")


class _Ahead(Generic[T]):
    """What is made one after another, of which the next is made meanwhile."""

    def __init__(self, make: Callable[[], Awaitable[T | None]]) -> None:
        self._make = make
        self._made: asyncio.Future[T | None] | None = None

    async def next(self) -> T | None:
        """None at the end, and ever after."""
        if self._made is None:
            self._made = asyncio.ensure_future(self._make())
        found = await self._made
        if found is not None:
            self._made = asyncio.ensure_future(self._make())
        return found

    async def close(self) -> None:
        """Ends what nobody waits for, and returns when that has ended."""
        if self._made is not None and not self._made.done():
            self._made.cancel()
            await asyncio.wait([self._made])
        if self._made is not None and not self._made.cancelled():
            self._made.exception()  # which nobody asks for any more


# --- frames to codes ------------------------------------------------------------------------------


async def encoded(work: Work, op: Op, source: Source, claims: bool) -> Row:
    """What comes of a clip. Of one that is longer than a slot there are no pixels, only codes.

    claims  whether it is the first of a request, which is refused where no slot is free
    """
    async with work.clips:
        ahead = _Ahead(source.next)
        try:
            begun = [chunk for _ in range(2) if (chunk := await ahead.next()) is not None]
            if not begun:
                raise Fault("empty", "the clip has no frames")
            if len(begun) == 1:
                return await _at_once(work, op, begun[0], source.kept, claims)
            work.x.hold(AT_ONCE * begun[0].nbytes)
            kind = Op.ENCODE if op == Op.RECONSTRUCT else op
            return await _streamed(work, kind, source, ahead, begun)
        finally:
            await ahead.close()


async def _at_once(work: Work, op: Op, chunk: Pixels, kept: tuple[int, int], claims: bool) -> Row:
    size = (len(chunk), *kept)
    work.promise(op, size)
    desk = work.served.desk
    kind = _kind(desk)
    ticket = desk.claim(kind) if claims else await desk.wait(kind)
    with work.filling(ticket):
        await _put(work, ticket, "pixels", chunk)
    return await work.run_and_close(ticket, op, size)


async def _streamed(
    work: Work, op: Op, source: Source, ahead: _Ahead[Pixels], begun: list[Pixels]
) -> Row:
    """The codes of all chunks, of which the first two are there."""
    desk, found = work.served.desk, _Gathered(work)
    frames = 0
    async with desk.streams.begin(desk.timeout) as stream:
        while begun:
            last = len(begun) == 1
            with await desk.wait(_kind(desk)) as ticket:
                await _put(work, ticket, "pixels", begun[0])
                count = len(begun.pop(0))
                found.add(await _step(work, stream, ticket, op, (count, *source.kept), last))
            frames += count
            if not last and (chunk := await ahead.next()) is not None:
                begun.append(chunk)
    return found.row((frames, *source.kept))


async def _put(work: Work, ticket: Ticket, name: str, array: npt.NDArray[Any]) -> None:
    threads = work.shop.threads
    await in_thread(threads, ticket.slot.put, name, array, until=ticket.deadline)


async def _step(
    work: Work, stream: Stream, ticket: Ticket, op: Op, size: tuple[int, ...], last: bool
) -> Row:
    """What a chunk gives: views into the slot."""
    answer = await stream.run(ticket, op, size, last=last)
    work.time("queue", answer.queued)
    work.time("model", answer.ran)
    return row_of(answer)


class _Gathered:
    """What comes of chunk after chunk, but for pixels; an answer holds it whole."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._parts: dict[str, list[npt.NDArray[Any]]] = {}
        self._bytes = 0

    def add(self, row: Row) -> None:
        """What a chunk gave."""
        for name, part in row.parts.items():
            self._parts.setdefault(name, []).append(part.copy())
            self._bytes += part.nbytes
        most = ANSWER * self._work.shop.settings.max_body
        if self._bytes > most:
            raise Fault(
                "too_large", f"the answer would have more than {most:,} bytes; ask for less"
            )

    def row(self, size: tuple[int, ...]) -> Row:
        """All of it."""
        self._work.x.hold(self._bytes, of_answer=True)
        axes = {"codes": 0, "latents": 1}  # that of time
        return Row(
            {name: np.concatenate(parts, axes[name]) for name, parts in self._parts.items()}, size
        )


# --- codes to frames ------------------------------------------------------------------------------


def is_left(row: Row | Failure) -> TypeGuard[Row]:
    """Whether a clip that is to be reconstructed has no pixels yet, only codes."""
    return isinstance(row, Row) and "pixels" not in row.parts


def is_long(served: Served, whole: Sequence[int]) -> bool:
    """Whether pixels that tokens stand for are a clip that is longer than a slot."""
    facts = served.facts
    if len(whole) < 3:
        return False
    return whole[0] > facts.traits.plan_frames(facts.chunk_frames(served.settings)).padded


class Decoding:
    """A clip's frames, chunk by chunk, of codes or latents; a context manager.

    size  that comes back, 0 where it isn't known
    whole that all tokens stand for
    shape (T, H, W, 3) of all frames
    """

    def __init__(self, work: Work, row: Row, whole: tuple[int, ...]) -> None:
        self._work, self._desk = work, work.served.desk
        facts = work.served.facts
        self._name = "codes" if "codes" in row.parts else "latents"
        self._op = Op.DECODE if self._name == "codes" else Op.DECODE_LATENTS
        self._tokens = row.parts[self._name]
        self._time = 0 if self._name == "codes" else 1
        self._size = row.size if any(row.size) else (0, 0, 0)
        self.shape = (*(side or most for side, most in zip(self._size, whole, strict=True)), 3)
        frames = facts.chunk_frames(work.served.settings)
        self._step = max(1, frames // facts.traits.stride[0])
        self._at = 0
        self._ahead = _Ahead(self._made)
        self._stack = AsyncExitStack()
        self._stream: Stream | None = None
        work.x.hold(AT_ONCE * frames * math.prod(self.shape[1:]), of_answer=True)

    async def next(self) -> Pixels | None:
        """The next frames; None after the last."""
        return await self._ahead.next()

    async def _made(self) -> Pixels | None:
        left = self._tokens.shape[self._time]
        while self._at < left:
            start, self._at = self._at, self._at + self._step
            part = self._tokens.take(range(start, min(self._at, left)), self._time)
            pixels = await self._run(part, last=self._at >= left)
            if pixels is not None and len(pixels):
                return pixels
        return None

    async def _run(self, part: npt.NDArray[Any], *, last: bool) -> Pixels | None:
        with await self._desk.wait(_kind(self._desk)) as ticket:
            ticket.slot.put(self._name, part)
            assert self._stream is not None
            row = await _step(self._work, self._stream, ticket, self._op, self._size, last)
            pixels = row.parts.get("pixels")
            return None if pixels is None else pixels.copy()

    async def __aenter__(self) -> Self:
        streams = self._desk.streams
        self._stream = await self._stack.enter_async_context(streams.begin(self._desk.timeout))
        self._stack.push_async_callback(self._ahead.close)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()


async def gathered(work: Work, row: Row, whole: tuple[int, ...]) -> Row:
    """A longer clip's row with all its frames, for media that hold no stream."""
    async with work.clips, Decoding(work, row, whole) as frames:
        most = ANSWER * work.shop.settings.max_body
        if math.prod(frames.shape) > most:
            raise Fault(
                "too_large",
                f"the answer would have more than {most:,} bytes of pixels; ask for one clip as "
                "npy, raw, safetensors or a film, which are sent as they are made",
            )
        work.x.hold(math.prod(frames.shape), of_answer=True)
        pixels, at = np.empty(frames.shape, np.uint8), 0
        while (chunk := await frames.next()) is not None:
            pixels[at : at + len(chunk)] = chunk
            at += len(chunk)
    return Row({**row.parts, "pixels": pixels}, row.size)


def _kind(desk: Desk) -> int:
    """The slots that clips have."""
    kinds = desk.line.slab.kinds
    return 1 if len(kinds) > 1 and kinds[1][0] else 0

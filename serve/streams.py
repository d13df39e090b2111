"""Clips that are longer than a slot: they go through one worker chunk by chunk.

A stream is what a model has to remember of such a clip between two chunks. It is with the worker
that had the first one, so that no other can go on with it: where that worker ends, the clip is lost
and whoever sent it begins anew (`Severed`). Between two chunks the worker does whatever waits.

A desk has at most so many streams at once, which bounds the state that workers hold. The next chunk
is handed in when the one before is answered, so chunks need no order in the pipes. A desk says when
nobody goes on with a stream; of one that came to its end, or failed, the worker knows.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from vqtok.serve.outcomes import Busy, Severed

if TYPE_CHECKING:
    from vqtok.serve.desk import Answer, Ticket
    from vqtok.serve.gather import Waiting
    from vqtok.serve.items import Item, Parts
    from vqtok.serve.line import Question
    from vqtok.serve.peer import Peer
    from vqtok.serve.slab import Op

__all__ = ["SEVERED", "Held", "Passage", "Stream", "Streams"]

SEVERED = "the worker that this clip went through ended in the middle of it; send it again, whole"


class Passage(Protocol):
    """One clip on its way through an engine: see `Engine.passage`."""

    def step(self, item: Item, last: bool, beat: Callable[[], None]) -> Parts:
        """The next chunk -> what it completes, which may be nothing; all of it at the last.

        item  its `size` is that of the chunk's pixels where these come in, and that of the whole
              clip's where they go out
        """
        ...


# --- of desks -------------------------------------------------------------------------------------


class Stream:
    """One clip, of which a desk hands in chunk after chunk.

    number  of the desk's streams
    peer    the worker that has it, and its generation then; None before the first chunk, and
            after the last one
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.step = self.generation = 0
        self.last = False
        self.peer: Peer | None = None

    async def run(self, ticket: Ticket, op: Op, size: tuple[int, ...], *, last: bool) -> Answer:
        """`Ticket.run` of the next chunk; where that fails, the stream can't go on."""
        self.last = last
        ticket.stream = self
        answer = await ticket.run(op, size)
        self.step += 1
        if last:
            self.peer = None  # which holds nothing of it any more
        return answer

    def check(self) -> None:
        """Raises where its worker is not the one that had the chunks so far."""
        if self.step and (self.peer is None or self.peer.generation != self.generation):
            raise Severed(SEVERED)


class Streams:
    """Those of a desk, at most so many at once."""

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0
        self._gate = asyncio.Semaphore(most)
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def begin(self, seconds: float = 0.0) -> AsyncIterator[Stream]:
        """A stream as soon as there is one; `Busy` where none is within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._gate.acquire()
        except TimeoutError:
            raise Busy(
                f"all {self.most} streams, for clips longer than a slot, are taken; try again soon"
            ) from None
        stream = Stream(next(self._numbers))
        self.open += 1
        try:
            yield stream
        finally:
            self.open -= 1
            self._gate.release()
            _forget(stream)


def _forget(stream: Stream) -> None:
    """Tells the worker that nobody goes on, where it is still the same."""
    from vqtok.serve.line import Question

    peer = stream.peer
    if peer is not None and peer.generation == stream.generation:
        peer.ask(Question(0, 0, peer.generation, 0, 0, 0.0, 0.0, stream.number), 0)


# --- of workers -----------------------------------------------------------------------------------


class Held:
    """The streams that a worker is in the middle of, by desk and number."""

    def __init__(self, begin: Callable[[Op], Passage]) -> None:
        self._begin = begin
        self._passages: dict[tuple[int, int], Passage] = {}

    def __len__(self) -> int:
        return len(self._passages)

    def step(self, waiting: Waiting, beat: Callable[[], None]) -> Parts:
        """The answer to a chunk; after one that fails nothing is held of its stream."""
        question = waiting.question
        key = waiting.desk, question.stream
        passage = self._passages.pop(key, None)
        if not question.step:
            passage = self._begin(waiting.op)
        if passage is None:
            raise RuntimeError("this is a chunk of a stream that is not held here")
        parts = passage.step(waiting.item, bool(question.last), beat)
        if not question.last:
            self._passages[key] = passage
        return parts

    def forget(self, desk: int, question: Question) -> None:
        """Nobody goes on with a stream."""
        self._passages.pop((desk, question.stream), None)

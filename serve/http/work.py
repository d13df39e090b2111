"""The pictures of one request: each has a slot while it is under way, and gives it back."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from vqtok.serve.http.exchange import PIECE, Exchange
from vqtok.serve.http.faults import STATUS, Fault, fault_of, word_of
from vqtok.serve.http.served import Served, Shop
from vqtok.serve.slab import Op
from vqtok.serve.wire import Failure, Row

if TYPE_CHECKING:
    from vqtok.serve.desk import Answer, Ticket

__all__ = ["ANSWER", "Work", "row_of"]

ANSWER = 4  # times the largest body are the pixels of an answer to several pictures


class Work:
    """The first picture gets a slot at once or the request is refused; later ones wait for theirs.

    Meanwhile nothing is read, so that the client cannot send more than there is room for. Those
    that were handed in need nothing of those that wait: they end, and give their slots back. A
    request never has more than half of the slots.

    It is a context manager, after which all slots are given back, whatever went wrong.

    check  raises where so many pictures cannot be answered; asked before each is worked on
    """

    def __init__(
        self, x: Exchange, shop: Shop, served: Served, check: Callable[[int], Any] = bool
    ) -> None:
        self.x, self.shop, self.served, self.check = x, shop, served, check
        self._results: list[Row | Failure | asyncio.Task[Row | Failure]] = []
        self._tickets: defaultdict[int, list[Ticket]] = defaultdict(list)  # of each kind
        self._begun = 0  # pictures
        self._counted = False
        self._bytes = self._held = 0  # of the answer's pixels; of those, held in the room

    @cached_property
    def clips(self) -> asyncio.Lock:
        """Of clips one is under way at a time."""
        return asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, BaseException) and not self._counted:
            self.count([STATUS[word_of(error, self.x.stopped)]] * self._begun)
        tasks = [task for task in self._results if isinstance(task, asyncio.Task)]
        for task in tasks:
            task.cancel()
        if any(not task.done() for task in tasks):
            await asyncio.wait(tasks)
        for tickets in self._tickets.values():  # also of what was cancelled before it had begun
            for ticket in tickets:
                ticket.close()

    # --- slots -----------------------------------------------------------------------------------

    def check_room(self, kind: int = 0) -> None:
        """Raises where there is no slot, before a body is read in vain."""
        if not self.served.desk.free[kind]:
            self.served.desk.claim(kind).close()

    async def ticket(self, kind: int) -> Ticket:
        """A slot for the next picture."""
        desk, held = self.served.desk, self._tickets[kind]
        if self._results:
            await self._below(max(1, desk.line.slab.kinds[kind][0] // 2), held)
            ticket = await desk.wait(kind)
        else:
            ticket = desk.claim(kind)
        held.append(ticket)
        self.begin()
        return ticket

    def begin(self) -> bool:
        """The next picture is under way; whether it is the first."""
        self.check(len(self._results) + 1)
        self._begun = len(self._results) + 1
        return not self._results

    async def _below(self, most: int, held: list[Ticket]) -> None:
        """Waits until fewer than `most` of these slots are held, the oldest first."""
        for result in self._results:
            if len(held) < most:
                return
            if isinstance(result, asyncio.Task) and not result.done():
                await asyncio.wait([result])
            held[:] = [ticket for ticket in held if not ticket.left]

    @contextmanager
    def filling(self, ticket: Ticket) -> Iterator[None]:
        """The slot is given back where it does not come to its being handed in."""
        try:
            yield
        except BaseException:
            ticket.close()
            raise

    def restart(self, ticket: Ticket) -> None:
        """The time for the answer begins now, however long the client took to send."""
        ticket.deadline = time.monotonic() + self.served.desk.timeout

    # --- pictures --------------------------------------------------------------------------------

    async def run(self, ticket: Ticket, op: Op, size: tuple[int, ...]) -> Row:
        """What a worker makes of a slot: views into it."""
        answer = await ticket.run(op, size)
        self.time("queue", answer.queued)
        self.time("model", answer.ran)
        return row_of(answer)

    async def run_and_close(self, ticket: Ticket, op: Op, size: tuple[int, ...]) -> Row:
        """The same, copied; the slot is given back."""
        with ticket:
            row = await self.run(ticket, op, size)
            return row._replace(parts={name: part.copy() for name, part in row.parts.items()})

    def later(self, doing: Callable[..., Awaitable[Row]], *of: Any) -> None:
        """The next picture is what doing(*of) makes; it is waited for when all are handed in."""
        self._results.append(asyncio.ensure_future(self._caught(doing, of)))

    def done(self, row: Row) -> None:
        """The result of the next picture."""
        self._results.append(row)

    def failed(self, failure: Failure) -> None:
        """The next picture came to nothing."""
        self._results.append(failure)
        self._begun = len(self._results)

    async def _caught(
        self, doing: Callable[..., Awaitable[Row]], of: Sequence[Any]
    ) -> Row | Failure:
        try:
            return await doing(*of)
        except Exception as error:
            return self.failure(error)

    def failure(self, error: Exception) -> Failure:
        """What an error is to one picture of several."""
        fault = fault_of(error)
        if fault.status == 500:
            self.shop.report(self.x, error)
        return fault.failure

    async def results(self) -> list[Row | Failure]:
        """Of each picture, in order; a `Fault` where all of them came to nothing."""
        found = [
            await result if isinstance(result, asyncio.Task) else result for result in self._results
        ]
        self.count([one.status if isinstance(one, Failure) else 200 for one in found])
        if found and all(isinstance(one, Failure) for one in found):
            raise _all_failed([one for one in found if isinstance(one, Failure)])
        return found

    # --- figures ---------------------------------------------------------------------------------

    def promise(self, op: Op, size: Sequence[int]) -> None:
        """Raises where the pixels of the answer to several pictures would take too much memory."""
        if op in (Op.ENCODE, Op.LATENTS):
            return
        self._bytes += 3 * math.prod(size)
        most = ANSWER * self.shop.settings.max_body
        if self._results and self._bytes > most:
            raise Fault(
                "too_large",
                f"the answer would have more than {most:,} bytes of pixels; ask for fewer",
            )
        if self._bytes > PIECE:
            more, self._held = self._bytes - self._held, self._bytes
            self.x.hold(more, of_answer=True)

    def let_go(self) -> None:
        """The pixels that were promised are there no more, only the body that was made of them."""
        self.x.let_go(self._held)
        self._held = 0

    def time(self, name: str, seconds: float) -> None:
        """The longest that a stage took of any picture."""
        self.x.timings[name] = max(seconds, self.x.timings.get(name, 0.0))

    def decoded(self, seconds: float) -> None:
        """A picture was made pixels of."""
        self.time("decode", seconds)
        labels = {"model": self.served.name, "op": self.x.op}
        self.shop.meters.add("vqtok_decode_seconds", seconds, **labels)

    def count(self, statuses: Sequence[int]) -> None:
        """Counts what became of the pictures."""
        self._counted = True
        self.shop.count(self.x, self.served, statuses)


def row_of(answer: Answer) -> Row:
    """An answer as the wire takes it."""
    parts = dict(answer.parts)
    scales = parts.pop("scales", None)
    pairs = () if scales is None else tuple((int(h), int(w)) for h, w in scales)
    return Row(parts, answer.size, pairs)


def _all_failed(failures: Sequence[Failure]) -> Fault:
    """The first one's status; of several pictures, JSON tells of each."""
    fault = Fault.of(failures[0])
    if len(failures) > 1:
        fault.more = {
            "pictures": [
                {"status": one.status, "error": Fault.of(one).to_dict()} for one in failures
            ]
        }
    return fault

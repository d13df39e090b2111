"""Where an API process hands in pictures: it has the slots, and knows which workers are up."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from vqtok.errors import InputError
from vqtok.serve.board import watch_exit
from vqtok.serve.line import Answered, Line, Question, Said
from vqtok.serve.outcomes import Broken, Busy, Deadly, EngineError, Late, Lost, Refused, Severed
from vqtok.serve.peer import Peer
from vqtok.serve.slab import FREE, GONE, HELD, QUEUED, TAKEN, Head, Op
from vqtok.serve.streams import SEVERED, Streams
from vqtok.serve.tickets import Answer, Ticket

if TYPE_CHECKING:
    from vqtok.serve.facts import Facts

__all__ = ["Answer", "Desk", "Ticket"]

KINDS = ("pictures", "clips")
# Workers that may die over one picture.
TRIES = 2
# One of so many slots stays for `claim`.
SHARE = 4
TOO_LATE = "the answer was not there in time"


class Desk:
    """The slots of one API process for one model; everything happens on its event loop.

    line     of the model
    number   of the desk, from 0 on; an API process each
    timeout  seconds that a ticket has, where nothing else is said
    streams  how many clips longer than a slot may be under way at once
    """

    def __init__(
        self, line: Line, number: int, facts: Facts, *, timeout: float = 30.0, streams: int = 2
    ) -> None:
        self.line, self.number, self.facts, self.timeout = line, number, facts, timeout
        kinds = range(len(line.slab.kinds))
        self._free = [list(line.slab.slots_of(number, kind)) for kind in kinds]
        self._waiters: list[dict[asyncio.Future[Ticket], float]] = [{} for _ in kinds]
        # Slots that those who waited for one may have, and do have.
        self._shares = [_share(count) for count, _ in line.slab.kinds]
        self._waited = [0 for _ in kinds]
        self._asked: dict[int, Ticket] = {}
        self._unsent: dict[int, Ticket] = {}
        self._peers = [Peer(line, number, worker) for worker in range(line.workers)]
        # Each desk begins with another one: none knows what the others have asked.
        first = number % line.workers
        self._turn = [*self._peers[first:], *self._peers[:first]]
        self.streams = Streams(streams)
        self._lost: str | None = None
        self._uids = itertools.count(1)
        self._came = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Listen to the workers, on the running loop."""
        self._loop = asyncio.get_running_loop()
        for worker, end in enumerate(self.line.answer_ends(self.number)):
            self._loop.add_reader(end, self._hear, worker)

    def close(self) -> None:
        """Listen no more; who still waits is told so."""
        if self._loop is None:
            return
        for end in self.line.answer_ends(self.number):
            self._loop.remove_reader(end)
        for peer in self._peers:
            peer.down()
        self._tell("the server is closing")
        self._loop = None

    def give_up(self, reason: str) -> None:
        """All workers have ended for good: who waits is told why, and whoever comes yet."""
        for peer in self._peers:
            self._down(peer.worker)
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        self._lost = reason
        waiting = [future for row in self._waiters for future in row]
        asked = [ticket.future for ticket in self._asked.values()]
        for future in (*waiting, *asked):
            _fail(future, Lost(reason))

    async def up(self) -> None:
        """Wait until a worker is up."""
        while not self.alive:
            self._came.clear()
            await self._came.wait()

    @property
    def free(self) -> tuple[int, ...]:
        """Free slots of each kind."""
        return tuple(map(len, self._free))

    @property
    def in_flight(self) -> int:
        """Questions that no worker has answered yet, also of those who left."""
        return len(self._asked)

    @property
    def alive(self) -> int:
        """Workers that are up."""
        return sum(peer.generation > 0 for peer in self._peers)

    def claim(self, kind: int = 0, seconds: float | None = None) -> Ticket:
        """A slot at once, whose answer is due in `seconds`; `Busy` where none is free.

        It is for the first picture of a request: those who `wait` never have all slots.

        kind  0 for a picture, 1 for a clip
        """
        deadline = self._deadline(kind, seconds)
        if not self._free[kind]:
            count = self.line.slab.kinds[kind][0]
            raise Busy(f"all {count} slots for {KINDS[kind]} are taken; try again soon")
        return self._ticket(self._free[kind].pop(), deadline)

    async def wait(self, kind: int = 0, seconds: float | None = None) -> Ticket:
        """A slot as soon as one is free; `Late` where none is within `seconds`, which go on."""
        deadline = self._deadline(kind, seconds)
        if self._free[kind] and self._waited[kind] < self._shares[kind]:
            return self._ticket(self._free[kind].pop(), deadline, waited=True)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ticket] = loop.create_future()
        late = Late(f"no slot for {KINDS[kind]} came free in time")
        timer = loop.call_later(deadline - time.monotonic(), _fail, future, late)
        self._waiters[kind][future] = deadline
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()
            raise
        finally:
            timer.cancel()
            self._waiters[kind].pop(future, None)

    # What tickets do.

    async def submit(self, ticket: Ticket, op: Op, size: tuple[int, ...]) -> Answer:
        """`Ticket.run`."""
        if ticket.left or ticket.uid in self._asked:
            raise InputError("a ticket runs one question at a time, and none once it is closed")
        if self._lost is not None:
            raise Lost(self._lost)
        if ticket.stream is not None:
            ticket.stream.check()
        loop = asyncio.get_running_loop()
        ticket.uid, ticket.attempt, ticket.deaths = next(self._uids), 1, 0
        ticket.sent = time.monotonic()
        ticket.future = loop.create_future()
        known = ticket.stream is None  # else it may be the size of a whole clip
        ticket.weight = (known and math.prod(size)) or ticket.slot.given.capacity // 3
        ticket.slot.head = Head(ticket.uid, 1, op, size)
        self._asked[ticket.uid] = ticket
        timer = loop.call_later(ticket.deadline - ticket.sent, self._overdue, ticket)
        self._send(ticket)
        try:
            return await ticket.future
        finally:
            timer.cancel()

    def leave(self, ticket: Ticket) -> None:
        """`Ticket.close`: the slot comes back now, or when its worker has done with it."""
        if ticket.uid in self._asked and ticket.worker is not None:
            ticket.slot.state = GONE
        else:
            self._asked.pop(ticket.uid, None)
            self._unsent.pop(ticket.uid, None)
            self._release(ticket)

    # Slots.

    def _deadline(self, kind: int, seconds: float | None) -> float:
        if kind >= len(self._free) or not self.line.slab.kinds[kind][0]:
            raise InputError(f"{self.facts.name} has no slots for {KINDS[kind]}")
        return time.monotonic() + (self.timeout if seconds is None else seconds)

    def _ticket(self, index: int, deadline: float, *, waited: bool = False) -> Ticket:
        slot = self.line.slab.slot(index)
        slot.clear()
        slot.state = HELD
        if waited:
            self._waited[slot.kind] += 1
        return Ticket(self, slot, deadline, waited)

    def _release(self, ticket: Ticket) -> None:
        """A slot that nobody can write to any more: to who has waited longest, or to the others.

        Who has waited comes first until all of them have their share, and never has more: neither
        long requests nor many short ones keep the other kind out.
        """
        index, kind = ticket.slot.index, ticket.slot.kind
        if kind:
            self.line.slab.give_back(index)
        ticket.slot.state = FREE
        self._waited[kind] -= ticket.waited
        waiters = self._waiters[kind]
        while waiters and self._waited[kind] < self._shares[kind]:
            future = next(iter(waiters))
            deadline = waiters.pop(future)
            if not future.done():
                future.set_result(self._ticket(index, deadline, waited=True))
                return
        self._free[kind].append(index)

    # Questions.

    def _send(self, ticket: Ticket) -> None:
        """To the worker with the least to do; once one is up where none is."""
        ticket.slot.state = QUEUED
        if ticket.stream is not None and ticket.stream.peer is not None and ticket.stream.step:
            self._ask(ticket, ticket.stream.peer)
            return
        up = [peer for peer in self._turn if peer.generation]
        if not up:
            self._unsent[ticket.uid] = ticket
            return
        self._ask(ticket, min(up, key=_load))

    def _ask(self, ticket: Ticket, peer: Peer) -> None:
        ticket.worker = peer.worker
        which = (ticket.uid, ticket.attempt, peer.generation, ticket.slot.index)
        if (stream := ticket.stream) is None:
            question = Question(*which, ticket.deaths, ticket.sent, ticket.deadline)
        else:
            stream.peer, stream.generation = peer, peer.generation
            chunk = (stream.number, stream.step, stream.last)
            question = Question(*which, 1, ticket.sent, ticket.deadline, *chunk)
        peer.ask(question, ticket.weight)

    def _send_unsent(self) -> None:
        waiting, self._unsent = self._unsent, {}
        for ticket in waiting.values():
            self._send(ticket)

    def _overdue(self, ticket: Ticket) -> None:
        up = self.alive or ticket.worker is not None
        _fail(ticket.future, Late(TOO_LATE) if up else Lost("no worker is up"))

    # Answers.

    def _hear(self, worker: int) -> bool:
        """Take what a worker has said since; whether that was anything."""
        answers = self.line.answers(self.number, worker)
        for answer in answers:
            if answer.said == Said.HELLO:
                self._up(worker, answer)
            elif answer.said == Said.GOODBYE:
                if answer.generation == self._peers[worker].generation:
                    self._down(worker)
            else:
                self._answered(worker, answer)
        if self._unsent:
            self._send_unsent()
        return bool(answers)

    def _answered(self, worker: int, answer: Answered) -> None:
        ticket = self._asked.get(answer.uid)
        if (
            ticket is None
            or ticket.worker != worker
            or (ticket.attempt, self._peers[worker].generation)
            != (answer.attempt, answer.generation)
        ):
            return
        del self._asked[answer.uid]
        ticket.worker = None
        self._peers[worker].load -= ticket.weight
        if ticket.left:
            self._release(ticket)
            return
        ticket.slot.state = HELD
        if ticket.future is not None and not ticket.future.done():
            self._settle(ticket, ticket.future, answer)

    @staticmethod
    def _settle(ticket: Ticket, future: asyncio.Future[Answer], answer: Answered) -> None:
        parts = ticket.slot.made.parts()
        if answer.said == Said.DONE:
            size = ticket.slot.head.size
            future.set_result(Answer(parts, size, answer.queued, answer.ran, answer.batch))
        elif answer.said in (Said.LATE, Said.SKIPPED):
            future.set_exception(Late(TOO_LATE))
        else:
            kind = Refused if answer.said == Said.REFUSED else Broken
            future.set_exception(kind(parts["message"].tobytes().decode(errors="replace")))

    # Workers.

    def _up(self, worker: int, hello: Answered) -> None:
        """A worker begins; were there one before it, that is dead, and all it said is heard."""
        self._down(worker)
        peer = self._peers[worker]
        peer.generation = hello.generation
        self._came.set()
        if hello.uid != os.getpid() and self._loop is not None:
            ended = partial(self._ended, worker, hello.generation)
            peer.forget = watch_exit(self._loop, hello.uid, ended)
        self._send_unsent()

    def _ended(self, worker: int, generation: int) -> None:
        """Its process is gone: hear its last answers before its questions go to others."""
        peer = self._peers[worker]
        while peer.generation == generation and self._hear(worker):
            pass
        if peer.generation == generation:
            self._down(worker)
            self._send_unsent()

    def _down(self, worker: int) -> None:
        """A worker takes nothing more: all that it had is asked again, or was tried enough."""
        peer = self._peers[worker]
        if not peer.generation:
            return
        peer.down()
        had = [ticket for ticket in self._asked.values() if ticket.worker == worker]
        for ticket in had:
            ticket.worker = None
            ticket.deaths += ticket.slot.state == TAKEN
            self._again(ticket)

    def _again(self, ticket: Ticket) -> None:
        if ticket.left:
            del self._asked[ticket.uid]
            self._release(ticket)
        elif ticket.stream is not None and ticket.stream.step:
            del self._asked[ticket.uid]
            ticket.slot.state = HELD
            _fail(ticket.future, Severed(SEVERED))
        elif ticket.deaths >= TRIES:
            del self._asked[ticket.uid]
            ticket.slot.state = HELD
            _fail(ticket.future, Deadly(f"{TRIES} workers died over it"))
        else:
            ticket.attempt += 1
            ticket.slot.head = ticket.slot.head._replace(attempt=ticket.attempt)
            self._unsent[ticket.uid] = ticket


def _load(peer: Peer) -> int:
    return peer.load


def _share(count: int) -> int:
    """Of so many slots, how many those may have who waited for one."""
    return count - max(1, count // SHARE) if count > 1 else count


def _fail(future: asyncio.Future[Any] | None, error: EngineError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)

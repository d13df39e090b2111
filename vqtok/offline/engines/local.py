"""Processes of this machine. The one that starts them hands out shards and replaces the dead."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from vqtok.errors import ConfigError
from vqtok.offline.engines import ENGINES, Watch, usual_worker
from vqtok.offline.engines.child import serve
from vqtok.offline.engines.deaths import Deaths
from vqtok.offline.job import Job, Making
from vqtok.offline.leases import BEATS, Leases
from vqtok.offline.ledger import News
from vqtok.offline.shard_loop import ShardLoop, device_of
from vqtok.offline.store import open_store

__all__ = ["Local"]

TICK = 0.5
PAUSE = 1.0  # between two looks at what others have done, and to try again what they have;
# that twice as long every time


@ENGINES.register("local")
class Local:
    """`processes` workers, which also share the shards with whoever else works on the data set.

    processes  1: this process does it itself
    making     what makes a worker on a device; it is pickled
    """

    def __init__(self, *, processes: int = 1, making: Making = usual_worker) -> None:
        if processes < 1:
            raise ConfigError(f"processes is a whole number, at least 1; got {processes!r}")
        self._processes = processes
        self._making = making

    def run(self, job: Job, todo: Sequence[int], watch: Watch) -> None:
        """See `Engine`."""
        if self._processes == 1:
            with ShardLoop(job, self._making, device_of(job.device, 0)) as loop:
                loop.all(todo, watch)
        elif todo:
            _Crew(job, self._making, min(self._processes, len(todo)), todo, watch).run()


class _Member:
    """A worker's process, as the crew sees it.

    shard    what it works on
    writing  what it has made and not written yet
    heard    when it last gave a sign of life
    reason   why it ends, where it could say so
    """

    def __init__(self, job: Job, making: Making, place: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.place = place
        self.ready = False
        self.shard: int | None = None
        self.writing: set[int] = set()
        self.heard = time.monotonic()
        self.reason: str | None = None
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=serve, args=(job, making, place, theirs), daemon=False
        )
        self.process.start()
        theirs.close()

    def give(self, shard: int) -> None:
        """Has it make a shard."""
        self.shard, self.heard = shard, time.monotonic()
        self._send(shard)

    def _send(self, what: int | None) -> None:
        try:
            self.pipe.send(what)
        except OSError:  # it is dead, as `wait` is about to say
            return

    def end(self) -> None:
        """Kills it: whatever it was writing is whole or not there, and it may be stopped."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Crew:
    """Hands out shards until all are done.

    left   not done and nobody's; `held` comes back into it: shards of others, to be tried later
    retry  when that is, and after how many seconds then
    """

    def __init__(
        self, job: Job, making: Making, size: int, todo: Sequence[int], watch: Watch
    ) -> None:
        self._job, self._making, self._size = job, making, size
        store = open_store(job.out)
        self._leases = Leases(store, job.lease)
        self._news = News(store, job.attempt, todo, watch)
        self._left = deque(todo)
        self._held: list[int] = []
        self._deaths = Deaths(job.plan)
        self._members: list[_Member] = []
        self._looked = self._retry = 0.0
        self._pause = PAUSE

    def run(self) -> None:
        try:
            self._news.look()
            for place in range(self._size):
                self._members.append(_Member(self._job, self._making, place))
            while self._news.left - self._deaths.lost:
                self._hand_out()
                self._listen()
        finally:
            for member in self._members:
                member.end()
        self._deaths.settle(self._news.left)

    def _hand_out(self) -> None:
        for member in self._members:
            if member.ready and member.shard is None:
                shard = self._deaths.next_of(self._left, self._news)
                if shard is not None:
                    member.give(shard)

    def _listen(self) -> None:
        pipes: dict[Any, _Member] = {member.pipe: member for member in self._members}
        ends: dict[Any, _Member] = {member.process.sentinel: member for member in self._members}
        ready = wait([*pipes, *ends], timeout=TICK)
        for each in ready:
            if each in pipes:
                self._hear(pipes[each])
        for member in [ends[each] for each in ready if each in ends]:
            if member in self._members:
                self._hear(member)
                self._replace(member)
        if time.monotonic() - self._looked > PAUSE:
            self._look_around()

    def _look_around(self) -> None:
        """Asks what others have done, and takes back what silent workers have."""
        self._looked = time.monotonic()
        if not self._held and not any(member.shard is None for member in self._members):
            return
        self._news.look()
        if self._held and self._looked >= self._retry:
            self._left.extend(self._held)
            self._held.clear()
            self._pause = min(2 * self._pause, max(PAUSE, self._job.lease / BEATS))
            self._retry = self._looked + self._pause
        for member in self._members:
            silent = self._looked - member.heard > self._job.lease
            if silent:
                has = {member.shard, *member.writing} - {None, *self._left}
                self._left.extend(shard for shard in has if shard is not None)

    def _hear(self, member: _Member) -> None:
        """All that a worker has said."""
        try:
            while member.pipe.poll():
                word, about = member.pipe.recv()
                member.heard = time.monotonic()
                if word == "refused":
                    raise about
                if word == "crashed":
                    member.reason = about
                elif word == "beat":
                    self._news.working(*about)
                else:
                    self._note(member, word, about)
        except (EOFError, ConnectionError):
            return

    def _note(self, member: _Member, word: str, shard: int) -> None:
        """What `serve` says of a shard."""
        if word == "done":
            member.writing.discard(shard)
            self._news.of(shard)
            return
        member.ready, member.shard = True, None
        self._deaths.forgive(None)
        if word == "made":
            self._pause = PAUSE
            member.writing.add(shard)
        elif word == "held" and not self._news.of(shard):
            self._held.append(shard)

    def _replace(self, member: _Member) -> None:
        """It has died; its shard goes to whoever is next."""
        member.process.join()
        lost = [*member.writing] if member.shard is None else [member.shard, *member.writing]
        if lost or not member.ready:
            reason = member.reason or _way_out(member.process.exitcode)
            self._deaths.count(lost[0] if lost else None, reason)
        for shard in lost:
            self._leases.bury(shard, self._job.attempt, member.process.pid or 0)
            self._left.appendleft(shard)
        self._members.remove(member)
        member.end()
        self._members.append(_Member(self._job, self._making, member.place))


def _way_out(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", as systems do that run out of memory" if name == "SIGKILL" else ""
        return f"it was ended by {name}{hint}"
    return f"it ended with exit status {code}"

"""Work that would hold up other requests, in threads."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from vqtok.serve.outcomes import Late

__all__ = ["Job", "Threads", "in_thread"]

T = TypeVar("T")


class Job(Generic[T]):
    """function(*args), which a thread does or nobody: who `take`s it first says which."""

    def __init__(self, function: Callable[..., T], args: tuple[object, ...]) -> None:
        self._function, self._args = function, args
        self._untaken = threading.Lock()
        self._result: T | None = None
        self._error: BaseException | None = None
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Whether nobody had."""
        return self._untaken.acquire(blocking=False)

    def run(self) -> None:
        """In a thread."""
        try:
            self._result = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def settle(self) -> None:
        """Tells who waits, on the loop."""
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]  # it has run

    def drop(self) -> None:
        """Nobody is to begin it any more; who waits for it is `Late`."""
        if self.take() and not self.future.done():
            self.future.set_exception(Late("no thread was free in time to decode it"))


class Threads:
    """Up to `count` threads that work for one loop.

    An executor wakes the loop for each job, which costs more than the head of a small picture; here
    it is woken for all that have ended by the time it comes.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._ended: deque[Job[Any]] = deque()
        self._started = 0
        self._is_told = self._is_closed = False

    def submit(self, job: Job[Any]) -> None:
        """Has a thread do it, if nobody takes it before."""
        if self._is_closed:
            raise RuntimeError("these threads have ended")
        if self._started < self._count:
            loop = asyncio.get_running_loop()
            name = f"{self._name}_{self._started}"
            threading.Thread(target=self._work, args=(loop,), name=name, daemon=True).start()
            self._started += 1
        self._jobs.put(job)

    def close(self) -> None:
        """Ends the threads; what none has begun is cancelled."""
        self._is_closed = True
        with suppress(queue.Empty):
            while job := self._jobs.get_nowait():
                if job.take():
                    job.future.cancel()
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while job := self._jobs.get():
            if job.take():
                job.run()
                self._ended.append(job)
                self._tell(loop)
            del job  # or what it holds would be there until the next one comes

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_told:
            self._is_told = True
            with suppress(RuntimeError):  # a loop that is closed
                loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._is_told = False  # before: what ends from now on is told anew
        while self._ended:
            self._ended.popleft().settle()


async def in_thread(
    threads: Threads, function: Callable[..., T], *args: object, until: float | None = None
) -> T:
    """function(*args) in a thread; `Late` where none has begun it by `until`, monotonic seconds.

    Whoever is cancelled meanwhile goes on only when the thread has ended: it may be writing where
    others are to write next.
    """
    job = Job(function, args)
    threads.submit(job)
    if until is None:
        return await _end_of(job)
    timer = asyncio.get_running_loop().call_later(until - time.monotonic(), job.drop)
    try:
        return await _end_of(job)
    finally:
        timer.cancel()


async def _end_of(job: Job[T]) -> T:
    try:
        return await asyncio.shield(job.future)
    except asyncio.CancelledError:
        if not job.take():
            await asyncio.wait([job.future])
        raise

"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

from vqtok.serve.client.flow import Flow
from vqtok.serve.client.frames import FrameFlow

__all__ = ["Background", "Ended", "Waiter"]

T = TypeVar("T")
PATIENCE = 15.0  # seconds for what was cancelled to end; one that looks up a name takes the longest
LOOK = 1.0  # seconds between two looks whether the loop is still there

Ask: TypeAlias = Callable[[], Awaitable[T]]
Given: TypeAlias = "SimpleQueue[Callable[[], None] | asyncio.Task[Any] | None]"


class Ended(Exception):
    """The loop was closed before there was a result."""


class Background:
    """One process's loop. Its thread begins with the first use, and is no reason to stay alive.

    finish  runs in the loop as the last
    """

    def __init__(self, finish: Ask[None]) -> None:
        self._finish = finish
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def here(self) -> bool:
        """Whether the calling thread is the loop's own, which must not wait for itself."""
        return threading.current_thread() is self._thread

    @property
    def over(self) -> bool:
        """Whether nothing will run here any more; threads don't outlive a fork."""
        thread = self._thread
        return self._process != os.getpid() or (thread is not None and not thread.is_alive())

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs from now on."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                work = (self._loop, self._stop, self._finish)
                thread = threading.Thread(target=_main, args=work, name="vqtok-client", daemon=True)
                thread.start()
                self._thread = thread
            return self._loop

    def begin(self, ask: Ask[T], given: Given) -> asyncio.Task[T] | None:
        """In the loop: a task that is put into `given` when it is over; None after the end."""
        if self._stop.is_set():
            given.put(None)
            return None
        task = asyncio.get_running_loop().create_task(_awaited(ask))
        task.add_done_callback(given.put)
        return task

    def close(self) -> None:
        """Ends everything that runs in the loop, and the loop; it can't be used again."""
        if self._loop is None or self.over:
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None and not self.here:
            self._thread.join(PATIENCE)


def _main(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, finish: Ask[None]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_until(stop, finish))


async def _until(stop: asyncio.Event, finish: Ask[None]) -> None:
    await stop.wait()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await finish()


async def _awaited(ask: Ask[T]) -> T:
    return await ask()


class Waiter:
    """A thread that waits for what runs in a loop, and does here what is asked of it meanwhile.

    So iterators of the caller's run in the caller's thread, as if there were no other one.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._given: Given = SimpleQueue()
        self._task: asyncio.Task[Any] | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """In the loop: what a function returns in the thread that waits."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = function()
            except Exception as error:
                loop.call_soon_threadsafe(_settle, future, None, error)
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)

        self._given.put(work)
        return await future

    def run(self, ask: Ask[T]) -> T:
        """What it returns, or raises what it raises.

        An interrupt cancels it, and goes on when it has ended.
        """
        if self._background.over:
            raise Ended
        given: Given = SimpleQueue()
        self._given, self._task = given, None
        loop = self._background.loop()

        def begin() -> None:
            self._task = self._background.begin(ask, given)

        def cancel() -> None:
            if self._task is None or not self._task.cancel():
                given.put(None)

        try:
            _soon(loop, begin)
            task = self._served(given)
        except Ended:
            raise
        except BaseException:
            _soon(loop, cancel)
            self._drained(given)
            raise
        try:
            result: T = task.result()
            return result
        except asyncio.CancelledError:
            raise Ended from None

    def leave(self, flow: Flow | FrameFlow) -> None:
        """Ends what nobody takes the results of any more."""
        if self._background.here:  # which happens when garbage is collected
            flow.cancel()
            return
        with suppress(Ended):
            self.run(flow.close)

    def _served(self, given: Given) -> asyncio.Task[Any]:
        while True:
            try:
                one = given.get(timeout=LOOK)
            except Empty:
                if self._background.over:
                    raise Ended from None
                continue
            if isinstance(one, asyncio.Task):
                return one
            if one is None:
                raise Ended
            one()

    def _drained(self, given: Given) -> None:
        """Until the end of what was cancelled; what that still asks for is not done."""
        until = time.monotonic() + PATIENCE
        while not self._background.over and time.monotonic() < until:
            with suppress(Empty):
                one = given.get(timeout=LOOK)
                if one is None or isinstance(one, asyncio.Task):
                    return


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:  # it is closed
        raise Ended from None


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # nobody waits for it any more
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

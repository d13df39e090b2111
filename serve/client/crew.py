"""Runs a client's steps in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

from vqtok.serve.client.effects import (
    END,
    Call,
    Effect,
    Give,
    Join,
    Pull,
    Send,
    Sleep,
    Spawn,
    Steps,
    advance,
)
from vqtok.serve.client.lanes import Lane, Lanes

__all__ = ["Crew"]

PATIENCE = 15.0  # seconds for a thread that was told to leave; one that connects takes the longest


class _Stopped(Exception):
    """Ends steps that nobody waits for any more."""


class _Task:
    """Steps in a thread of their own.

    Its end is waited for on an event: an interrupt of `Thread.join` may leave a thread that runs
    marked as one that has ended.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._result: Any = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._main, name="vqtok-client", daemon=True)

    def start(self) -> None:
        """Begins, once it is known to whoever will end it."""
        self._thread.start()

    def _main(self) -> None:
        try:
            self._result = self._run()
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    def join(self) -> Any:
        """What the steps returned, or raises what they raised."""
        self._over.wait()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def leave(self) -> None:
        """Waits until the thread, which was told, is gone."""
        if self._thread.ident is not None and self._over.wait(PATIENCE):
            self._thread.join()


class Crew:
    """The threads of one operation. Leaving the context ends all of them, whatever they do."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._stop = threading.Event()
        self._tasks: set[_Task] = set()
        self._busy: set[Lane] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for lane in list(self._busy):
            lane.end()
        for task in self._tasks:
            task.leave()

    def drive(self, steps: Steps[Any]) -> Generator[Any, None, Any]:
        """Yields what the steps give, and returns what they return."""
        reply: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = advance(steps, reply, error)
            except StopIteration as end:
                return end.value
            reply = error = None
            if isinstance(effect, Give):
                yield effect.value
                continue
            try:
                reply = self._perform(effect)
            except Exception as raised:
                error = raised

    def run(self, steps: Steps[Any]) -> Any:
        """What steps that give nothing return."""
        driven = self.drive(steps)
        while True:
            try:
                next(driven)
            except StopIteration as end:
                return end.value

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Send():
                return self._send(effect)
            case Call(function):
                return function()
            case Pull(items):
                return next(items, END)
            case Spawn(steps):
                task = _Task(lambda: self.run(steps))
                self._tasks.add(task)
                task.start()
                return task
            case Join(task):
                found = task.join()
                self._tasks.discard(task)
                return found
            case Sleep(seconds):
                self._sleep(seconds)
        return self._check()

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _send(self, effect: Send) -> Any:
        with self._lanes.lane() as lane:
            self._busy.add(lane)
            try:
                self._check()
                return lane.send(effect.request, effect.seconds)
            finally:
                self._busy.discard(lane)

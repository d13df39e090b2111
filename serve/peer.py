"""A worker as a desk sees it: whether it is up, what it has to do, and the way to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vqtok.serve.line import Line, Question

__all__ = ["Peer"]


class Peer:
    """It is up while it has a generation.

    load    pixels that this desk waits for
    full    whether its pipe takes no more, and is watched until it does
    forget  ends the watch over its process
    """

    def __init__(self, line: Line, desk: int, worker: int) -> None:
        self.worker = worker
        self.generation = self.load = 0
        self.full = False
        self.forget: Callable[[], None] | None = None
        self._line, self._desk = line, desk
        self._outbox: list[Question] = []

    def ask(self, question: Question, weight: int) -> None:
        """Together with all else of this turn of the loop: waking a worker is what costs."""
        self.load += weight
        self._outbox.append(question)
        if len(self._outbox) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def down(self) -> None:
        """It takes nothing more."""
        self.generation = self.load = 0
        self._outbox.clear()
        self._write()
        if self.forget is not None:
            self.forget()
            self.forget = None

    def _write(self) -> None:
        """Write what it is to be asked, as far as its pipe takes it; the rest once it does."""
        if self._outbox:
            del self._outbox[: self._line.ask(self._desk, self.worker, self._outbox)]
        if self.full == bool(self._outbox):
            return
        self.full = not self.full
        loop, end = asyncio.get_running_loop(), self._line.ask_end(self._desk, self.worker)
        if self.full:
            loop.add_writer(end, self._write)
        else:
            loop.remove_writer(end)

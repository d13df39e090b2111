"""Parts on their way to a server, several at once, and what becomes of them, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias

from vqtok.errors import VqtokError
from vqtok.serve.client.items import Item
from vqtok.serve.client.parts import Call, Parts

__all__ = ["Flow"]

Done: TypeAlias = Callable[[list[Item]], Coroutine[Any, Any, list[Any]]]


class Flow:
    """Asks for results as they are taken, some requests ahead.

    No asynchronous generator: a loop that closes ends several of these at once, in any order, and
    of two that stand in each other only one.

    done   a part -> what became of each of its items
    most   parts that are away at once
    raises whether an item that failed ends it
    """

    def __init__(self, parts: Parts, done: Done, call: Call, most: int, *, raises: bool) -> None:
        self._parts = parts
        self._done = done
        self._call = call
        self._most = most
        self._raises = raises
        self._running: deque[asyncio.Task[list[Any]]] = deque()
        self._part: list[Item] | None = None

    async def next(self) -> list[Any]:
        """What became of the next part's items; [] at the end.

        The part after those that are away is read while they are.
        """
        if self._part is None:
            self._part = await self._parts.next(self._call)
        while self._part or self._running:
            if self._part:
                self._running.append(asyncio.create_task(self._done(self._part)))
                self._part = await self._parts.next(self._call)
            if not self._part or len(self._running) >= self._most:
                outcomes = await self._running[0]
                self._running.popleft()
                return self._checked(outcomes)
        return []

    async def all(self) -> list[Any]:
        """Everything; nothing is under way afterwards."""
        found: list[Any] = []
        try:
            while outcomes := await self.next():
                found += outcomes
        finally:
            await self.close()
        return found

    def _checked(self, outcomes: list[Any]) -> list[Any]:
        failed: Iterable[VqtokError] = (one for one in outcomes if isinstance(one, VqtokError))
        if self._raises and (error := next(iter(failed), None)) is not None:
            raise error
        return outcomes

    def cancel(self) -> None:
        """Ends what nobody waits for any more, without waiting for that."""
        for task in self._running:
            task.cancel()

    async def close(self) -> None:
        """Ends it, and returns when it has ended."""
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

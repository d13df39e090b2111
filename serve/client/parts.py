"""Many items cut into what one request each can hold, in their order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from vqtok.errors import VqtokError
from vqtok.serve.client.items import Item

__all__ = ["FAILED", "Call", "Parts", "Room"]

FAILED = "failed"  # the kind of what could not be read; its data is the exception
# Does what may take a while, such as reading a file, where it does not hold up the event loop.
Call: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class Room:
    """What a request has room for; it can only shrink.

    count  items
    size   bytes; one item alone may have more
    """

    LEAST = 1 << 16  # bytes that no refusal makes it smaller than

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size

    def shrink(self, refused: int) -> None:
        """After a request with a body of so many bytes was too large for somebody on the way."""
        self.size = min(self.size, max(refused // 2, self.LEAST))

    def holds(self, items: Sequence[Item], item: Item) -> bool:
        """Whether one more fits to those that are there."""
        if not items:
            return True
        size = sum(one.size for one in items) + item.size
        return item.kind == items[0].kind and len(items) < self.count and size <= self.size


class Parts:
    """The parts of a call, made one by one as they are asked for.

    sources  an iterator, plain or asynchronous
    make     an item of a source and its place
    """

    def __init__(self, sources: Any, make: Callable[[Any, int], Item], room: Room) -> None:
        self._sources = sources
        self._make = make
        self.room = room
        self._index = 0
        self._part: list[Item] = []
        self._held: Item | None = None
        self._ended = False

    async def next(self, call: Call) -> list[Item]:
        """The next part; [] at the end."""
        self._part = [] if self._held is None else [self._held]
        self._held = None
        if self._ended:
            return self._part
        if hasattr(self._sources, "__anext__"):
            self._ended = await self._fill_later(call)
        else:
            self._ended = await call(self._fill)
        return self._part

    def _fill(self) -> bool:
        """Until the part is full -> whether that was the last one."""
        return all(self._add(source) for source in self._sources)

    async def _fill_later(self, call: Call) -> bool:
        async for source in self._sources:
            if not await call(partial(self._add, source)):
                return False
        return True

    def _add(self, source: Any) -> bool:
        """Whether the part had room for it; else the next one begins with it."""
        item = self._made(source)
        if self.room.holds(self._part, item):
            self._part.append(item)
        else:
            self._held = item
        return self._held is None

    def _made(self, source: Any) -> Item:
        """Also of a source that cannot be read, so that the others are not lost with it."""
        index, self._index = self._index, self._index + 1
        try:
            return self._make(source, index)
        except VqtokError as error:
            return Item(index, f"item {index}", FAILED, 0, error)

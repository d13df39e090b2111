"""Many items cut into what one request each can hold, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vqtok.errors import VqtokError
from vqtok.serve.client.effects import END, Call, Pull, Steps
from vqtok.serve.client.items import Item

__all__ = ["FAILED", "Parts", "Room"]

FAILED = "failed"  # the kind of what could not be read; its data is the exception


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
    """The parts of a call, made one by one as they are asked for."""

    def __init__(self, sources: Any, make: Callable[[Any, int], Item], room: Room) -> None:
        self._sources = sources
        self._make = make
        self.room = room
        self._index = 0
        self._held: Item | None = None
        self._ended = False

    def next(self) -> Steps[list[Item]]:
        """The next part; [] at the end."""
        part: list[Item] = []
        while (item := (yield from self._next_item())) is not None:
            if not self.room.holds(part, item):
                self._held = item
                break
            part.append(item)
        return part

    def _next_item(self) -> Steps[Item | None]:
        item, self._held = self._held, None
        if item is not None or self._ended:
            return item
        source = yield Pull(self._sources)
        if source is END:
            self._ended = True
            return None
        index, self._index = self._index, self._index + 1
        found: Item = yield Call(lambda: self._made(source, index))
        return found

    def _made(self, source: Any, index: int) -> Item:
        """Also of a source that cannot be read, so that the others are not lost with it."""
        try:
            return self._make(source, index)
        except VqtokError as error:
            return Item(index, f"item {index}", FAILED, 0, error)

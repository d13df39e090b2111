"""Large things that the threads of a process look at together."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

__all__ = ["Shared"]


class _Entry:
    def __init__(self) -> None:
        self.size, self.lock = 0, Lock()
        self.value: Any = None
        self.made = False


class Shared:
    """A few things, each made by the first thread that asks for it, while others wait for that.

    Threads that go through a table together so read each part of it once, not once each. Neither
    a pickled copy nor a forked process has what was held: a lock might be taken forever there.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()

    def __reduce__(self) -> tuple[type[Shared], tuple[int]]:
        return Shared, (self._most,)

    def _begin(self) -> None:
        self._lock, self._total = Lock(), 0
        self._held: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._process = os.getpid()

    def get(
        self, name: Hashable, make: Callable[[], Any], size: int | Callable[[Any], int] = 1
    ) -> Any:
        """What is held under a name, made if it is not; `size` is a number, or tells it of a value.

        Where the sizes of all exceed `most`, those least lately used fall out, never the last.
        """
        if self._process != os.getpid():
            self._begin()
        entry = self._entry(name)
        with entry.lock:
            if not entry.made:
                entry.value = make()
                entry.made = True
                self._weigh(name, entry, size(entry.value) if callable(size) else size)
            return entry.value

    def _entry(self, name: Hashable) -> _Entry:
        with self._lock:
            entry = self._held.get(name)
            if entry is None:
                entry = self._held[name] = _Entry()
            self._held.move_to_end(name)
            return entry

    def _weigh(self, name: Hashable, entry: _Entry, size: int) -> None:
        with self._lock:
            if self._held.get(name) is not entry:  # it fell out while it was made
                return
            entry.size = size
            self._total += size
            while self._total > self._most and len(self._held) > 1:
                self._total -= self._held.popitem(last=False)[1].size

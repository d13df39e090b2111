"""Which of what waits goes through the model next: the oldest, and what can go along with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from vqtok.serve.engine import Item
from vqtok.serve.line import Question
from vqtok.serve.slab import Op, Slot

__all__ = ["Gather", "Waiting"]


@dataclass(slots=True)
class Waiting:
    """A question that a worker has read: of which desk, about which slot."""

    desk: int
    question: Question
    slot: Slot
    op: Op
    item: Item

    @property
    def key(self) -> Hashable:
        """Equal for those that can share a batch: one op, shapes and scales."""
        if self.question.alone:
            return self.desk, self.question.uid
        parts = self.item.parts
        shapes = tuple((name, part.dtype.char, part.shape) for name, part in parts.items())
        scales = parts["scales"].tobytes() if "scales" in parts else b""
        return self.op, shapes, scales


@dataclass
class Gather:
    """Groups of questions that may share a batch; there is no waiting for more of a kind.

    max_batch  the longest batch
    """

    max_batch: int
    _groups: dict[Hashable, deque[Waiting]] = field(default_factory=dict)
    _caps: dict[Hashable, int] = field(default_factory=dict)
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def add(self, waiting: Waiting) -> None:
        """Take a question in."""
        self._groups.setdefault(waiting.key, deque()).append(waiting)
        self._count += 1

    def take(self) -> tuple[Hashable, list[Waiting]]:
        """The group of the oldest question, as far as a batch takes it; none where none waits."""
        if not self._groups:
            return None, []
        key = min(self._groups, key=lambda one: self._groups[one][0].question.sent)
        group = self._groups[key]
        batch = [group.popleft() for _ in range(min(len(group), self.cap(key)))]
        if not group:
            del self._groups[key]
        self._count -= len(batch)
        return key, batch

    def cap(self, key: Hashable) -> int:
        """The longest batch of this key."""
        return self._caps.get(key, self.max_batch)

    def lower(self, key: Hashable, cap: int) -> None:
        """From now on batches of this key are no longer than `cap`; memory ran out above it."""
        self._caps[key] = min(cap, self.cap(key))

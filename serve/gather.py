"""Which of what waits goes through the model next: the oldest, and what can go along with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from vqtok.serve.engine import Item
from vqtok.serve.line import Question
from vqtok.serve.slab import Op, Slot

__all__ = ["Cap", "Gather", "Waiting"]

# Batches that go well before a longer one is tried, which memory ran out with.
STEADY = 16


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
class Cap:
    """The longest batch of a kind since memory ran out, and how many as long went well since."""

    most: int
    good: int = 0


@dataclass
class Gather:
    """Groups of questions that may share a batch; there is no waiting for more of a kind.

    most  how many like this one go together
    """

    most: Callable[[Waiting], int]
    _groups: dict[Hashable, deque[Waiting]] = field(default_factory=dict)
    _caps: dict[Hashable, Cap] = field(default_factory=dict)
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
        count = 1 if len(group) == 1 else min(len(group), self._most(key, group[0]))
        batch = [group.popleft() for _ in range(count)]
        if not group:
            del self._groups[key]
        self._count -= len(batch)
        return key, batch

    def lower(self, key: Hashable, most: int) -> None:
        """Memory ran out above `most`: for now batches of this key are no longer."""
        cap = self._caps.get(key)
        self._caps[key] = Cap(most if cap is None else min(most, cap.most))

    def went_well(self, key: Hashable, length: int) -> None:
        """After enough batches as long as may be, memory may be there again: try twice as many."""
        cap = self._caps.get(key)
        if cap is None or length < cap.most:
            return
        cap.good += 1
        if cap.good == STEADY:
            self._caps[key] = Cap(2 * cap.most)

    def _most(self, key: Hashable, first: Waiting) -> int:
        """The longest batch of this key."""
        most, cap = self.most(first), self._caps.get(key)
        if cap is None:
            return most
        if cap.most >= most:
            del self._caps[key]
        return min(most, cap.most)

"""Slots of shared memory: a picture or clip each, what is asked about it, and the answer.

A slot's first half is written by its desk, its second by the worker that has it, so that what was
asked is whole again whatever became of the worker. Who may write when is the protocol of
`vqtok.serve.line`; there is no lock.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError
from vqtok.serve.shared import PAGE, Shared

if TYPE_CHECKING:
    from vqtok.serve.facts import Facts, Limits

__all__ = [
    "FREE",
    "GONE",
    "HELD",
    "QUEUED",
    "TAKEN",
    "Half",
    "Head",
    "Op",
    "Slab",
    "Slot",
    "slab_for",
]

# HELD: being filled. QUEUED: sent to a worker. TAKEN: on the device. GONE: nobody waits any more.
FREE, HELD, QUEUED, TAKEN, GONE = range(5)

NAMES = ("pixels", "codes", "latents", "scales", "message")
DTYPES = tuple(np.dtype(name) for name in ("u1", "u2", "u4", "f4", "i4"))
NUMBER_OF_NAME = {name: number for number, name in enumerate(NAMES)}
NUMBER_OF_DTYPE = {dtype: number for number, dtype in enumerate(DTYPES)}
# The longest that a part's shape is: (t, h, w, Q).
AXES = 5
ALIGN = 64

HEAD = struct.Struct("<QIHH3I")  # uid, attempt, op, axes of size, size
COUNT = struct.Struct("<I")
PART = struct.Struct(f"<BBHIQ{AXES}I")  # name, dtype, axes, -, offset, shape
TABLE = 64
HALF_TABLE = 256
HEADER = TABLE + 2 * HALF_TABLE


class Op(IntEnum):
    """What is asked of a worker."""

    ENCODE = 1  # pixels -> codes
    LATENTS = 2  # pixels -> codes, latents
    DECODE = 3  # codes -> pixels
    DECODE_LATENTS = 4  # latents -> pixels
    RECONSTRUCT = 5  # pixels -> codes, pixels


class Head(NamedTuple):
    """What is asked: which of the desk's questions it is, and of what size."""

    uid: int
    attempt: int
    op: int
    size: tuple[int, ...]


class Half:
    """The parts that one side has put into a slot."""

    def __init__(self, shared: Shared, table: int, start: int, capacity: int) -> None:
        self._shared, self._table = shared, table
        self._start, self.capacity = start, capacity
        self._used = 0
        self._count = 0

    def clear(self) -> None:
        """Forget all parts; the next one is laid at the start."""
        self._used = self._count = 0
        COUNT.pack_into(self._shared.memory, self._table, 0)

    def lay(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Room for a part: a writable view of that dtype and shape."""
        kind = np.dtype(dtype)
        length = kind.itemsize
        for side in shape:
            length *= side
        if self._used + length > self.capacity:
            raise InputError(
                f"{name} of {kind} {shape} need {length:,} bytes, and of the slot's "
                f"{self.capacity:,} there are {self.capacity - self._used:,} left"
            )
        self._enter(name, kind, shape)
        view = self._shared.array(kind, shape, self._start + self._used)
        self._used += -(-length // ALIGN) * ALIGN
        return view

    def put(self, name: str, array: npt.NDArray[Any]) -> None:
        """Copy a part in."""
        self.lay(name, array.dtype, array.shape)[...] = array

    def parts(self) -> dict[str, npt.NDArray[Any]]:
        """Views of all parts, by name."""
        memory = self._shared.memory
        (count,) = COUNT.unpack_from(memory, self._table)
        found = {}
        for index in range(count):
            entry = PART.unpack_from(memory, self._table + COUNT.size + index * PART.size)
            name, dtype, axes, _, offset = entry[:5]
            found[NAMES[name]] = self._shared.array(
                DTYPES[dtype], entry[5 : 5 + axes], self._start + offset
            )
        return found

    def _enter(self, name: str, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
        name_number, dtype_number = NUMBER_OF_NAME.get(name), NUMBER_OF_DTYPE.get(kind)
        if name_number is None or dtype_number is None or len(shape) > AXES:
            raise InputError(
                f"parts of a slot are {', '.join(NAMES)}, of {', '.join(map(str, DTYPES))} and at "
                f"most {AXES} axes; got {name} of {kind} {shape}"
            )
        place = self._table + COUNT.size + self._count * PART.size
        padded = (*shape, *(0,) * (AXES - len(shape)))
        entry = (name_number, dtype_number, len(shape), 0, self._used, *padded)
        PART.pack_into(self._shared.memory, place, *entry)
        self._count += 1
        COUNT.pack_into(self._shared.memory, self._table, self._count)


class Slot:
    """One slot: its head, what was put in (`given`) and what came of it (`made`).

    The methods of `given` are also the slot's own.
    """

    def __init__(self, slab: Slab, index: int, kind: int, start: int, capacity: int) -> None:
        self.slab, self.index, self.kind, self.start = slab, index, kind, start
        payload = start + HEADER
        self.given = Half(slab, start + TABLE, payload, capacity)
        self.made = Half(slab, start + TABLE + HALF_TABLE, payload + capacity, capacity)
        self.lay, self.put, self.parts = self.given.lay, self.given.put, self.given.parts

    def clear(self) -> None:
        """Forget all parts of both halves."""
        self.given.clear()
        self.made.clear()

    @property
    def head(self) -> Head:
        uid, attempt, op, axes, *size = HEAD.unpack_from(self.slab.memory, self.start)
        return Head(uid, attempt, op, tuple(size[:axes]))

    @head.setter
    def head(self, head: Head) -> None:
        size = (*head.size, *(0,) * (3 - len(head.size)))
        HEAD.pack_into(
            self.slab.memory,
            self.start,
            head.uid,
            head.attempt,
            head.op,
            len(head.size),
            *size,
        )

    @property
    def state(self) -> int:
        return self.slab.states[self.index]

    @state.setter
    def state(self, state: int) -> None:
        self.slab.states[self.index] = state


class Slab(Shared):
    """Slots of several kinds, each kind so many for every desk.

    kinds  (count, capacity) of each kind: slots that a desk has, and bytes that each side of a
           slot holds; kind 0 is for pictures, 1 for clips
    desks  how many desks share the slab
    """

    def __init__(self, kinds: Sequence[tuple[int, int]], desks: int = 1) -> None:
        self._lay_out(kinds, desks)
        super().__init__(self._end)
        self._views()

    def _lay_out(self, kinds: Sequence[tuple[int, int]], desks: int) -> None:
        self.kinds = tuple((count, -(-capacity // ALIGN) * ALIGN) for count, capacity in kinds)
        self.desks = desks
        self.total = desks * sum(count for count, _ in self.kinds)
        self._spans: list[tuple[int, int, int]] = []  # first slot, start, stride of each kind
        first, start = 0, _pages(self.total)
        for count, capacity in self.kinds:
            stride = _pages(HEADER + 2 * capacity)
            self._spans.append((first, start, stride))
            first, start = first + count * desks, start + count * desks * stride
        self._end = start

    def _views(self) -> None:
        self.states = memoryview(self.memory)[: self.total]
        self._slots: dict[int, Slot] = {}

    def slots_of(self, desk: int, kind: int) -> range:
        """The slots of one kind that a desk may hand out."""
        count, first = self.kinds[kind][0], self._spans[kind][0]
        return range(first + desk * count, first + (desk + 1) * count)

    def kind_of(self, index: int) -> int:
        """Which kind a slot is of."""
        return max(kind for kind, span in enumerate(self._spans) if span[0] <= index)

    def slot(self, index: int) -> Slot:
        """A slot by its number; the same object each time."""
        if index not in self._slots:
            kind = self.kind_of(index)
            first, start, stride = self._spans[kind]
            place = start + (index - first) * stride
            self._slots[index] = Slot(self, index, kind, place, self.kinds[kind][1])
        return self._slots[index]

    def give_back(self, index: int) -> None:
        """Free the memory of a slot; what it held is zero afterwards."""
        kind = self.kind_of(index)
        first, start, stride = self._spans[kind]
        self.punch(start + (index - first) * stride, stride)

    def counts(self, kind: int) -> list[int]:
        """How many slots of a kind are in each state, over all desks."""
        first = self._spans[kind][0]
        states = bytes(self.states[first : first + self.kinds[kind][0] * self.desks])
        return [states.count(state) for state in range(GONE + 1)]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "kinds": self.kinds, "desks": self.desks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lay_out(state["kinds"], state["desks"])
        self._views()


def slab_for(facts: Facts, limits: Limits, *, slots: int, clip_slots: int, desks: int = 1) -> Slab:
    """The slots of a model: so many for pictures and for clips, for each desk."""
    picture, clip = facts.slot_bytes(limits)
    return Slab([(slots, picture), (clip_slots if clip else 0, clip)], desks)


def _pages(length: int) -> int:
    """A length as whole pages."""
    return -(-length // PAGE) * PAGE

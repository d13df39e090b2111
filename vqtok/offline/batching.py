"""Batches of one shape each, cut from a shard.

The place of a row in its batch is a function of the row's number in the shard alone: a failed one
leaves its place to zeros, and so do rows that a retry leaves out. So no other row's batch looks
different because of it.

Pictures in buckets are the exception: a place is given in the order of the shard among those that
go to a bucket, which only a picture that was decoded can tell. One that was not takes no place;
where a retry brings it back, it goes through the model by itself, at the first place of a batch of
zeros, and what is there already stays as it is. Numbering places by the row within each bucket,
too, would leave most of every batch to zeros.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vqtok.batches import memory
from vqtok.pictures import Pixels

__all__ = ["Batch", "Batcher", "Memory"]

Shape = tuple[int, ...]


class Batch(NamedTuple):
    """Pixels for the model, (batch, *size, 3) uint8, and whose they are.

    rows    numbers of rows in their shard
    places  where each lies; all other places are zeros
    """

    rows: list[int]
    places: list[int]
    pixels: Pixels

    def alone(self, place: int) -> Pixels:
        """The batch with zeros at all other places."""
        one = np.zeros_like(self.pixels)
        one[place] = self.pixels[place]
        return one


class _Open(NamedTuple):
    """A batch that is being filled, the `number`th of its shape."""

    number: int
    batch: Batch


class Memory:
    """Memory of batches, used again and again.

    pinned  whether it is that which a GPU fetches by itself
    """

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: dict[Shape, list[Pixels]] = defaultdict(list)

    def take(self, shape: Shape) -> Pixels:
        """With anything in it."""
        free = self._free[shape]
        if free:
            return free.pop()
        return memory(math.prod(shape), pinned=self._pinned).reshape(shape)

    def give(self, pixels: Pixels) -> None:
        """That of one picture by itself is not kept, for the next one has another size."""
        if len(pixels) > 1:
            self._free[pixels.shape].append(pixels)


class Batcher:
    """Lays rows into batches, whose memory is to be given back when they are done with.

    by_number  whether a row's place follows from its number; else from the order of its shape
    """

    def __init__(self, size: int, by_number: bool, memory: Memory) -> None:
        self._size = size
        self._by_number = by_number
        self._memory = memory
        self._open: dict[Shape, _Open] = {}
        self._counts: dict[Shape, int] = defaultdict(int)

    def add(self, row: int, pixels: Pixels) -> Iterator[Batch]:
        """Takes a row's pixels (*size, 3), and gives the batches that are full by that."""
        shape = pixels.shape
        at = row if self._by_number else self._counts[shape]
        self._counts[shape] += 1
        number, place = divmod(at, self._size)
        if shape in self._open and self._open[shape].number != number:
            yield self._closed(shape)
        if shape not in self._open:
            whole = self._memory.take((self._size, *shape))
            self._open[shape] = _Open(number, Batch([], [], whole))
        batch = self._open[shape].batch
        batch.pixels[place] = pixels
        batch.rows.append(row)
        batch.places.append(place)
        if place == self._size - 1:
            yield self._closed(shape)

    def rest(self) -> Iterator[Batch]:
        """What is not full at the end of a shard."""
        for shape in list(self._open):
            yield self._closed(shape)

    def _closed(self, shape: Shape) -> Batch:
        batch = self._open.pop(shape).batch
        if len(batch.places) < self._size:
            batch.pixels[sorted({*range(self._size)} - {*batch.places})] = 0
        return batch

"""Which sample stands where in the endless stream that a run trains on. Arithmetic alone.

The stream is one shuffled epoch after the other. Position p of it is the same sample, with the
same draws, in any run of the same seed: neither processes, workers nor a resume change it. Epochs
run into each other, so every micro-batch is full, also where there are fewer samples than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError

__all__ = ["Draws", "Shares", "Stream"]

ORDER, DRAW = 0, 1  # what a hash is for
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Stream:
    """The order of `size` samples."""

    size: int
    seed: int

    def __getitem__(self, position: int) -> int:
        """The number of the sample at a position."""
        epoch, place = divmod(position, self.size)
        return int(_permutation(self.size, self.seed, epoch)[place])


@dataclass(frozen=True)
class Draws:
    """What is random about the view that stands at one position."""

    seed: int
    position: int

    def below(self, n: int, purpose: int) -> int:
        """A whole number from 0 to n - 1; each purpose has its own, whatever else is drawn."""
        drawn: int = _hash(self.seed, DRAW, self.position, purpose)
        return drawn * n >> 64


@dataclass(frozen=True)
class Shares:
    """How micro-batches of `size` positions, over all ranks, lie in the stream.

    Each rank takes `size // world` of them, one contiguous part.
    """

    size: int
    rank: int = 0
    world: int = 1

    @classmethod
    def of(cls, batch_size: int, accumulate: int, rank: int, world: int) -> Shares:
        """Those of a run; `batch_size` is what an optimizer step takes in all."""
        if batch_size % (accumulate * world):
            raise ConfigError(
                f"batch_size={batch_size} cannot be shared out evenly by accumulate={accumulate} "
                f"and {world} processes; take a multiple of {accumulate * world}"
            )
        return cls(batch_size // accumulate, rank, world)

    def positions(self, number: int) -> range:
        """Those of this rank in the micro-batch with this number, from 0."""
        part = self.size // self.world
        start = number * self.size + self.rank * part
        return range(start, start + part)


@lru_cache(2)
def _permutation(size: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Sorted by hashes: numpy's generators may give other numbers in another version."""
    hashes = _hash(seed, ORDER, epoch, np.arange(size, dtype=np.uint64))
    return np.argsort(hashes, kind="stable")


def _hash(*words: Any) -> Any:
    """64 bits for several words, whole numbers or uint64 arrays, by the steps of splitmix64."""
    state: Any = 0
    for word in words:
        state = ((state ^ (word & MASK)) + GOLDEN) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state

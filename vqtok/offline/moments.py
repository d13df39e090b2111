"""Mean and spread of latents, merged over shards: the same numbers on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vqtok.offline.stored import Stored

__all__ = ["Moments", "Spread"]


class Spread(NamedTuple):
    """What `latents` are centred and scaled by: (latents - shift) * scaling.

    mean, std   by channel
    shift       the mean over all values
    scaling     1 / the standard deviation of all values; None where they are all equal
    """

    mean: list[float]
    std: list[float]
    shift: float
    scaling: float | None


class Moments(Stored):
    """How many values each channel has, their mean, and the sum of squares of what is off it."""

    count: int
    mean: list[float]
    m2: list[float]

    @classmethod
    def of(cls, latents: Iterable[npt.NDArray[np.float16]], channels: int) -> Self:
        """Of finite arrays (channels, ...), float16.

        There are few float16 numbers: they are counted first and summed with one rounding, so
        that neither the order of the arrays nor the processor changes a bit.
        """
        counts = np.zeros((channels, 1 << 16), np.int64)
        for each in latents:
            patterns = np.ascontiguousarray(each).view(np.uint16).reshape(channels, -1)
            for channel, row in zip(counts, patterns, strict=True):
                channel += np.bincount(row, minlength=1 << 16)
        return cls._counted(counts)

    @classmethod
    def _counted(cls, counts: npt.NDArray[np.int64]) -> Self:
        numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
        total = int(counts[0].sum())
        means, squares = [], []
        for channel in counts:
            there = channel > 0
            often, values = channel[there].astype(np.float64), numbers[there]
            mean = math.fsum(often * values) / max(total, 1)
            means.append(mean)
            squares.append(math.fsum(often * (values - mean) ** 2))
        return cls(count=total, mean=means, m2=squares)

    def merged(self, other: Moments) -> Moments:
        """Of both (Chan, Golub and LeVeque)."""
        count = self.count + other.count
        if not self.count or not other.count:
            return other if other.count else self
        share = other.count / count
        away = [b - a for a, b in zip(self.mean, other.mean, strict=True)]
        mean = [a + d * share for a, d in zip(self.mean, away, strict=True)]
        between = [d * d * self.count * share for d in away]
        m2 = [a + b + c for a, b, c in zip(self.m2, other.m2, between, strict=True)]
        return Moments(count=count, mean=mean, m2=m2)

    @staticmethod
    def of_all(parts: Sequence[Moments]) -> Moments | None:
        """Merged in the order given; None of none."""
        return reduce(Moments.merged, parts) if parts else None

    def spread(self) -> Spread | None:
        """None where there are no values."""
        if not self.count:
            return None
        shift = math.fsum(self.mean) / len(self.mean)
        off = math.fsum(self.count * (mean - shift) ** 2 for mean in self.mean)
        variance = (math.fsum(self.m2) + off) / (self.count * len(self.mean))
        return Spread(
            mean=self.mean,
            std=[math.sqrt(m2 / self.count) for m2 in self.m2],
            shift=shift,
            scaling=1 / math.sqrt(variance) if variance > 0 else None,
        )

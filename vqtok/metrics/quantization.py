"""What the quantizer does to vectors: by how much, in which direction, and at which scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqtok.errors import InputError
from vqtok.search import float64

__all__ = ["QuantizationSums", "Statistics", "statistics"]

# Scales are counted by their logarithm, so that quantiles of parts can be joined: bins an octave,
# and octaves to either side of 1.
BINS = 512
OCTAVES = 32
QUANTILES = (0.05, 0.5, 0.95)


class Statistics(NamedTuple):
    """Means over vectors. The raw errors shrink with the vectors, the relative one does not.

    Angles and scales are those of vectors and codes that have a length, and NaN where none has.
    """

    error: float  # |e - q|²
    mean_squared_error: float  # the same a coordinate
    relative_error: float  # |e - q|² / |e - mean of e|²; NaN where all vectors are equal
    e_norm: float
    q_norm: float
    angle: float  # between e and q, in degrees
    obtuse: float  # share of angles over 90 degrees
    scale_p05: float  # quantiles of λ = |q| / |e|
    scale_p50: float
    scale_p95: float


class QuantizationSums:
    """`Statistics` of vectors that come in parts, whose order and sizes do not matter.

    Means are exact, up to float64's rounding; quantiles come from a histogram, to .07 %.
    """

    def __init__(self) -> None:
        self.count = self.directed = self.obtuse = self.dim = 0
        self.error = self.e_norm = self.q_norm = self.angle = 0.0
        # The mean of e, and the sum of squared distances to it: sums of squares would lose the
        # variance of vectors far from the origin.
        self.mean: Tensor = torch.zeros(0, dtype=torch.float64)
        self.spread = 0.0
        self.scales = torch.zeros(2 * OCTAVES * BINS + 1, dtype=torch.int64)

    def add(self, e: Tensor, q: Tensor) -> None:
        """Vectors (..., D) and their codes (..., D), at least one."""
        e, q = _rows(e, q)
        self._check_dim(e.shape[1])
        e_norm, q_norm, has_length = _lengths(e, q)
        mean = e.mean(0)
        self._add_spread(len(e), mean.cpu(), float((e - mean).square().sum()))
        self.error += float((e - q).square().sum())
        self.e_norm += float(e_norm.sum())
        self.q_norm += float(q_norm.sum())
        self.directed += int(has_length.sum())
        self.angle += float(_degrees(*(t[has_length] for t in (e, q, e_norm, q_norm))).sum())
        self.obtuse += int(((e * q).sum(1)[has_length] < 0).sum())
        bins = ((q_norm / e_norm)[has_length].log2() * BINS).round() + OCTAVES * BINS
        bins = bins.clamp(0, len(self.scales) - 1).long()
        self.scales += torch.bincount(bins, minlength=len(self.scales)).cpu()

    def merge(self, other: QuantizationSums) -> None:
        """Adds what `other` has seen."""
        if not other.count:
            return
        self._check_dim(other.dim)
        self._add_spread(other.count, other.mean, other.spread)
        for name in ("error", "e_norm", "q_norm", "angle", "directed", "obtuse"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.scales = self.scales + other.scales

    def result(self) -> Statistics:
        """The figures; all of them NaN where nothing came."""
        n = self.count or float("nan")
        directed = self.directed or float("nan")
        return Statistics(
            error=self.error / n,
            mean_squared_error=self.error / (n * max(1, self.dim)),
            relative_error=self.error / self.spread if self.spread > 0 else float("nan"),
            e_norm=self.e_norm / n,
            q_norm=self.q_norm / n,
            angle=self.angle / directed,
            obtuse=self.obtuse / directed,
            **_named(self._quantile(p) for p in QUANTILES),
        )

    def _check_dim(self, dim: int) -> None:
        if self.dim not in (0, dim):
            raise InputError(
                f"vectors of one set have one width; got {dim} after {self.dim} dimensions"
            )
        self.dim = dim

    def _add_spread(self, count: int, mean: Tensor, spread: float) -> None:
        """Joins the mean and spread of two sets (Chan et al. 1979)."""
        total = self.count + count
        if not self.count:
            self.mean = torch.zeros_like(mean)
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.spread += spread + float(shift.square().sum()) * self.count * count / total
        self.count = total

    def _quantile(self, share: float) -> float:
        """The middle of the bin that holds the vector at this share of all, the nearest one."""
        if not self.directed:
            return float("nan")
        rank = 1 + round(share * (self.directed - 1))
        place = int(torch.searchsorted(self.scales.cumsum(0), rank))
        return float(2 ** (place / BINS - OCTAVES))


def statistics(e: Tensor, q: Tensor) -> Statistics:
    """Vectors (..., D) and their codes (..., D) -> figures, taken in float64, quantiles exact."""
    sums = QuantizationSums()
    sums.add(e, q)
    e_norm, q_norm, has_length = _lengths(*_rows(e, q))
    scale = (q_norm / e_norm)[has_length].cpu().numpy()
    exact = np.quantile(scale, QUANTILES) if len(scale) else [np.nan] * 3
    return sums.result()._replace(**_named(exact))


def _rows(e: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    if e.shape != q.shape or not e.numel():
        raise InputError(
            "statistics are those of vectors (..., D), at least one, and of as many codes; got "
            f"{tuple(e.shape)} and {tuple(q.shape)}"
        )
    return float64(e.detach()).flatten(0, -2), float64(q.detach()).flatten(0, -2)


def _lengths(e: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|e|, |q|, and where both are more than 0."""
    e_norm, q_norm = e.norm(dim=1), q.norm(dim=1)
    return e_norm, q_norm, (e_norm > 0) & (q_norm > 0)


def _named(quantiles: Iterable[float]) -> dict[str, float]:
    names = (f"scale_p{round(100 * p):02}" for p in QUANTILES)
    return {name: float(x) for name, x in zip(names, quantiles, strict=True)}


def _degrees(e: Tensor, q: Tensor, e_norm: Tensor, q_norm: Tensor) -> Tensor:
    """Rows -> angles, by half-angles: an arc cosine has no digits near 0 and 180 degrees."""
    u, v = e / e_norm[:, None], q / q_norm[:, None]
    half: Tensor = (u - v).norm(dim=1).atan2((u + v).norm(dim=1))
    return (2 * half).rad2deg()

"""What the quantizer does to vectors: by how much, in which direction, and at which scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from vqtok.errors import InputError
from vqtok.search import float64

__all__ = ["Statistics", "statistics"]


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


def statistics(e: Tensor, q: Tensor) -> Statistics:
    """Vectors (..., D) and their codes (..., D) -> figures, taken in float64."""
    if e.shape != q.shape or not e.numel():
        raise InputError(
            "statistics are those of vectors (..., D), at least one, and of as many codes; got "
            f"{tuple(e.shape)} and {tuple(q.shape)}"
        )
    e, q = (float64(t.detach()).flatten(0, -2) for t in (e, q))
    error = (e - q).square().sum(1).mean()
    variance = (e - e.mean(0)).square().sum(1).mean()
    e_norm, q_norm = e.norm(dim=1), q.norm(dim=1)
    has_length = (e_norm > 0) & (q_norm > 0)
    angle = _degrees(*(t[has_length] for t in (e, q, e_norm, q_norm)))
    away = (e * q).sum(1)[has_length] < 0
    scale = (q_norm / e_norm)[has_length].cpu().numpy()
    quantiles = np.quantile(scale, [0.05, 0.5, 0.95]) if len(scale) else [np.nan] * 3
    return Statistics(
        error=float(error),
        mean_squared_error=float(error) / e.shape[1],
        relative_error=float(error / variance) if variance > 0 else float("nan"),
        e_norm=float(e_norm.mean()),
        q_norm=float(q_norm.mean()),
        angle=float(angle.mean()),
        obtuse=float(away.double().mean()),
        **{f"scale_p{p}": float(x) for p, x in zip(("05", "50", "95"), quantiles, strict=True)},
    )


def _degrees(e: Tensor, q: Tensor, e_norm: Tensor, q_norm: Tensor) -> Tensor:
    """Rows -> angles, by half-angles: an arc cosine has no digits near 0 and 180 degrees."""
    u, v = e / e_norm[:, None], q / q_norm[:, None]
    half: Tensor = (u - v).norm(dim=1).atan2((u + v).norm(dim=1))
    return (2 * half).rad2deg()

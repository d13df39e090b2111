"""torch's antialiased bicubic of uint8 pictures in NumPy, bit for bit: for where torch is not.

Both axes are weighted sums in fixed point, columns first, rounded to bytes in between; an axis that
keeps its length is left alone. The sums are those of integers below 2**53, so float64 products
of any order and on any number of threads have them exactly.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Band", "bicubic"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

REACH = 2.0  # of the cubic, in pixels of the coarser side
MOST_BITS = 22  # after the point, in a weight
TARGETS = 16  # of one product: more waste work on zeros, fewer leave the processor idle
STRIP = 1 << 19  # float64 values that are in work at once, to stay in the cache


class Band(NamedTuple):
    """Targets that lie together, and what they take from the sources that they reach."""

    targets: slice
    sources: slice
    weights: Floats  # (targets, sources)


def bicubic(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 -> (*size, 3) uint8, a new and contiguous array."""
    height, width, channels = pixels.shape
    if width != size[1]:
        columns = _weighted(pixels.transpose(2, 0, 1), size[1]).reshape(-1, height)
    else:
        columns = pixels.reshape(height, -1).T
    rows = columns.T if height == size[0] else _weighted(columns[None], size[0])
    return np.array(rows.reshape(*size, channels), order="C")


def _weighted(lines: Pixels, target: int) -> Pixels:
    """(c, n, source) -> (target, c, n): each line brought to another length, and laid upright."""
    channels, count, source = lines.shape
    made = np.empty((target, channels, count), np.uint8)
    step = max(STRIP // (source * channels), 8)
    for first in range(0, count, step):
        strip = lines[:, first : first + step].astype(np.float64, order="C").reshape(-1, source)
        for band in _bands(source, target):
            sums = band.weights @ strip[:, band.sources].T
            sums += 0.5
            np.clip(sums, 0, 255, out=sums)
            part = made[band.targets, :, first : first + step]
            part[:] = sums.reshape(part.shape)  # which cuts off the fraction
    return made


@lru_cache(maxsize=32)
def _bands(source: int, target: int) -> tuple[Band, ...]:
    starts, weights = _taps(source, target)
    bands = []
    for first in range(0, target, TARGETS):
        begins, rows = starts[first : first + TARGETS], weights[first : first + TARGETS]
        low, high = int(begins[0]), min(int(begins[-1]) + weights.shape[1], source)
        dense = np.zeros((len(rows), int(begins[-1]) + weights.shape[1] - low))
        at = (begins - low)[:, None] + np.arange(weights.shape[1])
        np.put_along_axis(dense, at, rows, axis=1)
        bands.append(
            Band(slice(first, first + len(rows)), slice(low, high), dense[:, : high - low])
        )
    return tuple(bands)


def _taps(source: int, target: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Each target's first source (target,), and its weights from there on (target, taps).

    The order of operations is torch's: a last bit that differs can end in another weight.
    """
    scale = source / target
    stretch = max(scale, 1.0)
    reach = REACH * stretch
    centres = scale * (np.arange(target) + 0.5)
    starts = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + reach + 0.5).astype(np.int64), source)
    at = starts[:, None] + np.arange(int((ends - starts).max()))
    weights = _cubic((at - centres[:, None] + 0.5) * (1 / stretch))
    weights[at >= ends[:, None]] = 0
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]
    unit = 2.0 ** _bits(weights.max())
    return starts, np.trunc(weights * unit + np.copysign(0.5, weights)) / unit


def _bits(largest: float) -> int:
    """The most bits after the point with which the largest weight still is an int16."""
    fits = (bits for bits in range(MOST_BITS) if int(0.5 + largest * 2 ** (bits + 1)) >= 2**15)
    return next(fits, MOST_BITS)


def _cubic(x: Floats) -> Floats:
    """Keys' cubic with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))

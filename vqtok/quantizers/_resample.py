"""Pictures of vectors at other sizes, as products with small matrices.

The values are those of torch's `interpolate`. Its own kernels have gradients that differ from run
to run on GPUs, take no free sizes in an exported graph, and lack some sizes on some devices.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["area", "bicubic"]

# The free coefficient of the cubic, which libraries choose differently.
STEEPNESS = -0.75


def area(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, D, H, W) -> (B, D, *size), each the mean of the vectors that it covers, if but partly."""
    return _resized(x, *(_means(a, b, x) for a, b in zip(x.shape[2:], size, strict=True)))


def bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, D, h, w) -> (B, D, *size), by cubics through four neighbours; corners are not aligned."""
    return _resized(x, *(_cubics(a, b, x) for a, b in zip(x.shape[2:], size, strict=True)))


def _resized(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ (x @ columns.T)


def _means(source: int, target: int, like: Tensor) -> Tensor:
    """(target, source)."""
    place = torch.arange(target, device=like.device)[:, None]
    first, end = place * source // target, -(-(place + 1) * source // target)
    at = torch.arange(source, device=like.device)
    return ((first <= at) & (at < end)).to(like.dtype) / (end - first)


def _cubics(source: int, target: int, like: Tensor) -> Tensor:
    """(target, source)."""
    # Where a target's middle lies between those of sources, in whole 1 / (2 target).
    middle = (2 * torch.arange(target, device=like.device) + 1) * source - target
    low = middle // (2 * target)
    share = (middle - low * 2 * target).to(like.dtype) / (2 * target)
    at = torch.arange(source, device=like.device)
    matrix = like.new_zeros(target, source)
    for tap in range(-1, 3):
        neighbour = (low + tap).clamp(0, source - 1)  # beyond the edge it is the edge
        matrix = matrix + _cubic(share - tap)[:, None] * (neighbour[:, None] == at)
    return matrix


def _cubic(x: Tensor) -> Tensor:
    """The weight of a neighbour at the distance x, within 2."""
    x, a = x.abs(), STEEPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, far)

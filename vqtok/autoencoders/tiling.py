"""Large pictures in bounded memory: a slice of the batch, or a tile of the picture, at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Tiling", "in_slices"]

Step = Callable[[Tensor], Tensor]


def in_slices(step: Step, batch: Tensor, one_by_one: bool) -> Tensor:
    """`step` over a batch, an item at a time if asked."""
    if not one_by_one or batch.shape[0] < 2:
        return step(batch)
    return torch.cat([step(item) for item in batch.split(1)])


class _Span(NamedTuple):
    """Along one axis of the grid: a tile with its surroundings, and the part to keep of it."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


class Tiling:
    """Cuts a picture into tiles of at most `size` pixels on a side, a multiple of the stride.

    Each tile is seen with a quarter of its side around it, of which nothing is kept. Neighbours
    are not blended: the mean of two latents is not a code, and what is kept of a tile has its
    surroundings in view anyway. Of a clip all frames are in one tile.
    """

    def __init__(self, size: int, stride: int) -> None:
        self.size = size
        self.stride = stride

    def shrink(self, step: Step, pixels: Tensor) -> Tensor:
        """(B, C, ..., H, W) -> (B, D, ..., H / stride, W / stride), through `step` on each tile."""
        return self._walk(step, pixels, self.stride, 1)

    def grow(self, step: Step, latents: Tensor) -> Tensor:
        """(B, D, ..., h, w) -> (B, C, ..., h * stride, w * stride), through `step` on each tile."""
        return self._walk(step, latents, 1, self.stride)

    def _walk(self, step: Step, x: Tensor, source: int, target: int) -> Tensor:
        height, width = x.shape[-2] // source, x.shape[-1] // source
        rows = []
        for down in self._spans(height):
            row = []
            for across in self._spans(width):
                tile = x[
                    ...,
                    down.start * source : down.stop * source,
                    across.start * source : across.stop * source,
                ]
                out = step(tile)
                row.append(
                    out[
                        ...,
                        down.keep_start * target : down.keep_stop * target,
                        across.keep_start * target : across.keep_stop * target,
                    ]
                )
            rows.append(torch.cat(row, -1))
        return torch.cat(rows, -2)

    def _spans(self, length: int) -> Iterator[_Span]:
        most = max(1, self.size // self.stride)
        margin = -(-most // 4)
        # Of nearly equal length: the norms of a sliver would be those of a few tokens.
        count = -(-length // most)
        edges = [length * index // count for index in range(count + 1)]
        for start, stop in pairwise(edges):
            seen = max(0, start - margin), min(length, stop + margin)
            yield _Span(*seen, start - seen[0], stop - seen[0])

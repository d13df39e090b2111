"""A torch Sampler that reads a set of tokens in runs, and still gives its rows by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

from vqtok.errors import ConfigError
from vqtok.offline.pieces import WINDOW, Order
from vqtok.offline.stream import place_of

if TYPE_CHECKING:
    from vqtok.offline.read import TokenSet

__all__ = ["TokenSampler"]


class TokenSampler(Sampler[int]):
    """Numbers of all rows of this rank, once an epoch: `DataLoader(tokens, sampler=...)`.

    Pieces of the set are put in an order by seed and epoch and shared out to the ranks; `window`
    rows of them are mixed at a time, whose blocks stay in memory as they are read, in each worker.
    Unless told otherwise those are 16,384, or as many as fit there. Ranks differ by one row at
    most.
    """

    def __init__(
        self,
        tokens: TokenSet,
        *,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        window: int | None = None,
    ) -> None:
        if window is not None and window < 1:
            raise ConfigError(f"window is a number of rows, at least 1; got {window}")
        self.rank, self.world = place_of(rank, world)
        self.window = min(WINDOW, tokens.rows_in_memory) if window is None else window
        self.tokens, self.seed = tokens, seed
        self.epoch = tokens.epoch

    def set_epoch(self, epoch: int) -> None:
        """Another order, and with views="random" other views. Call it before workers start."""
        self.epoch = self.tokens.epoch = epoch

    def __len__(self) -> int:
        total = len(self.tokens)
        return total * (self.rank + 1) // self.world - total * self.rank // self.world

    def __iter__(self) -> Iterator[int]:
        counts = np.asarray(self.tokens.counts)
        firsts = np.cumsum(counts) - counts
        order = Order(self.tokens.counts, True, self.window, self.seed, self.epoch)
        for window in order.windows(self.rank, self.world):
            rows = [np.arange(start, stop) + firsts[shard] for shard, start, stop in window]
            yield from np.concatenate(rows)[order.mixed(window)].tolist()

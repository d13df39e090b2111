"""Rows as a torch IterableDataset: shuffled, shared by ranks and workers, and to be resumed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from vqtok.errors import ConfigError, MismatchError
from vqtok.offline.pieces import WINDOW, Order, Pieces
from vqtok.offline.rows import Row

if TYPE_CHECKING:
    from vqtok.offline.read import TokenSet

__all__ = ["TokenStream", "place_of"]


class TokenStream(IterableDataset[Row]):
    """Each row once an epoch, over all ranks and their workers together; none twice, none added.

    All shards are cut into pieces of 256 rows, these are put in an order by seed and epoch, and
    that is cut into as many equal runs as there are workers in all ranks. A worker mixes its run,
    `window` rows at a time, which it holds in memory. Runs differ by one row at most, and so may
    ranks: a training that steps ranks together stops at `rows // world` of them. It has no length,
    as a DataLoader would take that for its number of batches, and each worker's last batch is a
    smaller one; `rows` says how many come.

    Parquet is read by range. Of the other formats a shard in a bucket is fetched as a whole, so
    have those on a disk.

    `state_dict` says how far it is, and `load_state_dict` goes on from there, with as many ranks
    and workers. Workers of a plain DataLoader keep that to themselves; torchdata's
    StatefulDataLoader asks them for it.
    """

    def __init__(
        self,
        tokens: TokenSet,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        window: int = WINDOW,
    ) -> None:
        if window < 1:
            raise ConfigError(f"window is a number of rows, at least 1; got {window}")
        self.rank, self.world = place_of(rank, world)
        self.tokens, self.shuffle, self.seed, self.window = tokens, shuffle, seed, window
        self.epoch = tokens.epoch
        self._taken = 0
        self._resume: dict[str, Any] | None = None
        # The last epoch that a worker began, and 1: what this process would not know otherwise.
        self._begun = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Another order, and with views="random" other views. Call it before workers start."""
        if self._resume is not None and self._resume["epoch"] != epoch:
            self._resume = None
        if self.epoch != epoch:
            self._taken = 0
        self.epoch = epoch

    @property
    def rows(self) -> int:
        """How many come to this rank in an epoch."""
        total = len(self.tokens)
        return total * (self.rank + 1) // self.world - total * self.rank // self.world

    def __iter__(self) -> Iterator[Row]:
        number, runs, workers = self._worker()
        start = self._start()
        self._begun.fill_(self.epoch + 1 if workers else 0)
        self._taken = 0
        order = Order(self.tokens.counts, self.shuffle, self.window, self.seed, self.epoch)
        for window in order.windows(number, runs):
            size = int((window[:, 2] - window[:, 1]).sum())
            if self._taken + size <= start:
                self._taken += size
                continue
            yield from self._mixed(order, window, max(0, start - self._taken))

    def state_dict(self) -> dict[str, Any]:
        """What of the epoch this worker, or this process without workers, has given."""
        if get_worker_info() is None and int(self._begun) == self.epoch + 1:
            raise ConfigError(
                "the workers of a DataLoader read this stream, and they alone know how far they "
                "are; torchdata's StatefulDataLoader asks them, or use num_workers=0"
            )
        if self._resume is not None:
            return dict(self._resume)
        return {**self._identity(), "epoch": self.epoch, "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on from there; `MismatchError` then, if of another stream."""
        self.epoch = state["epoch"]
        self._resume = dict(state)
        if get_worker_info() is None:
            self._begun.fill_(0)

    # --- inside -----------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        number, runs, workers = self._worker()
        return {
            "data": self.tokens.sha256,
            "views": self.tokens.views,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "window": self.window,
            "run": number,
            "runs": runs,
            "workers": workers,
        }

    def _start(self) -> int:
        state, self._resume = self._resume, None
        if state is None:
            return 0
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise MismatchError(
                    f"this state is of another stream: {name} is {state.get(name)} there, "
                    f"{mine} here"
                )
        return int(state["taken"])

    def _worker(self) -> tuple[int, int, int]:
        """The number of this worker, how many there are in all ranks, and in this one."""
        info = get_worker_info()
        if info is None:
            return self.rank, self.world, 0
        each = info.num_workers
        return self.rank * each + info.id, self.world * each, each

    def _mixed(self, order: Order, window: Pieces, skip: int) -> Iterator[Row]:
        """A generator of its own, so that one window is let go of before the next is read."""
        pieces = [
            self.tokens.part(shard, start, stop, self.epoch)
            for shard, start, stop in window.tolist()
        ]
        where = [(piece, place) for piece in pieces for place in range(len(piece))]
        self._taken += skip
        for place in order.mixed(window)[skip:].tolist():
            piece, inner = where[place]
            self._taken += 1
            yield self.tokens.finished(piece[inner])


def place_of(rank: int | None, world: int | None) -> tuple[int, int]:
    """(rank, world) as given; else torch's, what the launcher says, or alone."""
    if (rank is None) != (world is None):
        raise ConfigError("rank and world are given together, or neither")
    if rank is None or world is None:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 <= rank < world:
        raise ConfigError(f"rank is in [0, world); got rank={rank} and world={world}")
    return rank, world

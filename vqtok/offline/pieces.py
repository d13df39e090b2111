"""Which rows come when: pieces of shards in an order by chance, shared by ranks, mixed in windows.

Rows that lie together are read together, and neighbours are mostly of one class. So pieces are
small beside a shard, all of them are put in an order at once, and many are mixed at a time.
Importing this brings no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["WINDOW", "Order", "Pieces"]

# Rows of a piece at most, and of a window unless told otherwise.
PIECE, WINDOW = 256, 16_384

Pieces = npt.NDArray[np.int64]  # (n, 3): a shard, and the range of its rows


class Order:
    """An order of rows, by seed and epoch, for one of several runs.

    counts   rows of each shard
    window   rows that are mixed at a time, at most
    """

    def __init__(self, counts: Sequence[int], shuffle: bool, window: int, *by: int) -> None:
        self._size = min(PIECE, window)
        self._counts, self._shuffle, self._by = counts, shuffle, by
        self._each = window // self._size

    def windows(self, number: int, runs: int) -> Iterator[Pieces]:
        """The pieces of each window of a run, as they lie in the set.

        All runs have all rows together, each of them once; runs differ by one row at most.
        """
        pieces = self._run(number, runs)
        for first in range(0, len(pieces), self._each):
            group = pieces[first : first + self._each]
            yield group[np.lexsort((group[:, 1], group[:, 0]))] if self._shuffle else group

    def mixed(self, window: Pieces) -> npt.NDArray[np.int64]:
        """Where the rows of a window, one piece after the other, go."""
        rows = int((window[:, 2] - window[:, 1]).sum())
        if not self._shuffle:
            return np.arange(rows)
        shard, start, _ = window[0].tolist()
        return np.random.default_rng([*self._by, 1, shard, start]).permutation(rows)

    def _run(self, number: int, runs: int) -> Pieces:
        pieces = _cut(self._counts, self._size)
        if self._shuffle:
            pieces = pieces[np.random.default_rng(self._by).permutation(len(pieces))]
        ends = np.cumsum(pieces[:, 2] - pieces[:, 1])
        total = int(ends[-1]) if len(ends) else 0
        low, high = total * number // runs, total * (number + 1) // runs
        firsts = ends - (pieces[:, 2] - pieces[:, 1])
        inside = (ends > low) & (firsts < high)
        pieces, firsts = pieces[inside], firsts[inside]
        # A run begins and ends within a piece.
        starts = pieces[:, 1] + np.maximum(low - firsts, 0)
        stops = np.minimum(pieces[:, 2], pieces[:, 1] + high - firsts)
        return np.stack([pieces[:, 0], starts, stops], 1)


def _cut(counts: Sequence[int], size: int) -> Pieces:
    rows = np.asarray(counts, np.int64)
    each = -(-rows // size)
    shards = np.repeat(np.arange(len(rows)), each)
    starts = (np.arange(len(shards)) - np.repeat(np.cumsum(each) - each, each)) * size
    return np.stack([shards, starts, np.minimum(starts + size, rows[shards])], 1)

"""Memory that batches are laid into, used again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.batches import memory

__all__ = ["Staging"]


class Staging:
    """One batch at a time, in memory that is made as large as the largest one needs.

    pinned  whether it is that which a GPU fetches by itself
    """

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned
        self._memory: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def lay(self, arrays: Sequence[npt.NDArray[Any]], rows: int) -> npt.NDArray[Any]:
        """Arrays of one shape -> (rows, ...), zeros behind them; good until the next call."""
        first = arrays[0]
        length = rows * first.nbytes
        if length > self._memory.nbytes:
            self._memory = np.empty(0, np.uint8)  # before the larger one is asked for
            self._memory = memory(length, pinned=self._pinned)
        batch = self._memory[:length].view(first.dtype).reshape(rows, *first.shape)
        for row, array in enumerate(arrays):
            batch[row] = array
        batch[len(arrays) :] = 0
        return batch

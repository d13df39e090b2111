"""How many ids a grid of codes takes, and where they stand."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError

__all__ = ["Ids", "Layout", "closed", "integers", "shape_of"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The counts behind a grid, in the order that it is written in."""

    grid: tuple[int, ...]  # as given: (h, w), (t, h, w) or (L,)
    frames: int
    rows: int  # of a frame; columns where the order is "column"
    codes: int  # of a row: with Q codes a token, Q for each
    row_ends: bool
    frame_ends: bool

    @property
    def row(self) -> int:
        """Ids of a row."""
        return self.codes + self.row_ends

    @property
    def frame(self) -> int:
        """Ids of a frame."""
        return self.rows * self.row + self.frame_ends

    @property
    def body(self) -> int:
        """Ids between begin and end."""
        return self.frames * self.frame


def closed(rows: Ids, end: int | None) -> Ids:
    """(N, L) -> (N, L + 1), with `end` after each row; as it is without one."""
    if end is None:
        return rows
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=end)


def shape_of(grid: Sequence[int], *, flat: bool = False) -> tuple[int, ...]:
    """A grid (h, w) or (t, h, w) as a tuple; with `flat` (L,), which may be written (1, 1, L)."""
    try:
        shape = tuple(operator.index(side) for side in grid)
    except TypeError:
        shape = ()
    if flat and shape[:-1] == (1, 1):
        shape = shape[-1:]
    if len(shape) not in ((1,) if flat else (2, 3)) or min(shape) < 1:
        forms = "(L,), a number of codes," if flat else "(h, w) or (t, h, w), all"
        raise CodesError(f"a grid is {forms} at least 1; got {grid!r}")
    return shape


def integers(values: Any, what: str) -> npt.NDArray[np.integer]:
    """An array, list or tensor of whole numbers as an array."""
    if hasattr(values, "cpu"):  # a tensor; generated ids lie on the language model's device
        values = values.cpu()
    try:
        array = np.asarray(values)
    except ValueError:
        raise CodesError(
            f"{what} are one array of whole numbers; got lists of unequal length"
        ) from None
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise CodesError(f"{what} are whole numbers; got an array of {array.dtype}")
    return array if array.size else array.astype(np.int64)

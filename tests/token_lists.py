"""Data sets that lie in memory, for what takes a `TokenSet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from token_rows import plan, row

from vqtok.offline.plan import Plan
from vqtok.offline.rows import Row

DATASET = "5" * 64


class TokenList:
    """Rows of a finished set, as a `TokenSet` gives them."""

    def __init__(self, of: Plan, rows: Sequence[Row]) -> None:
        self.plan, self.rows = of, list(rows)
        self.sha256 = DATASET
        self.shift_factor = 0.5 if of.with_latents else None
        self.scaling_factor = 2.0 if of.with_latents else None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def token_list(
    keys: Sequence[str] = ("a", "b", "c"),
    views: Sequence[str] = ("center",),
    grid: tuple[int, ...] = (4, 4),
    labels: Sequence[int | str | None] | None = (2, 0, 1),
    tokenizer: dict[str, Any] | None = None,
    **changes: Any,
) -> TokenList:
    """One row for each view of each key; views called "hflip" are mirrored."""
    kind = "none" if labels is None else "text" if isinstance(labels[0], str) else "int"
    of = plan(
        keys,
        {"is_video": len(grid) == 3, **(tokenizer or {})},
        **{"views": tuple(views), "view_names": tuple(views), "label": kind, **changes},
    )
    made = []
    for number, key in enumerate(keys):
        label = None if labels is None else labels[number % len(labels)]
        for turn, view in enumerate(views):
            told = {"view": view, "flip": view == "hflip", "label": label}
            made.append(row(key, of, 10 * number + turn, grid, **told))
    return TokenList(of, made)


def clips(lengths: Sequence[int] = (3, 2), side: int = 4, **changes: Any) -> TokenList:
    """Clips of square grids, of several lengths."""
    keys = tuple(f"clip{number}" for number in range(len(lengths)))
    found = token_list(keys, grid=(lengths[0], side, side), labels=None, **changes)
    found.rows = [
        row(key, found.plan, number, (length, side, side), label=None)
        for number, (key, length) in enumerate(zip(keys, lengths, strict=True))
    ]
    return found


def stacked(found: TokenList, what: str = "codes") -> np.ndarray[Any, Any]:
    """The arrays of all rows, which are of one shape."""
    return np.stack([getattr(each, what) for each in found.rows])

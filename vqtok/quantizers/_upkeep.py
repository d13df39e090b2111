"""How a table of codes moves between optimizer steps: running means, k-means, dead codes.

Everything here is given the sums over all micro-batches and ranks, decides from them alone and
draws from a generator that ranks share, so that every rank makes the same move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vqtok.types import CodeSums

__all__ = [
    "DEAD_CODE_RULES",
    "UNPLACED",
    "Table",
    "draw_candidates",
    "move_by_average",
    "move_by_kmeans",
    "smoothed",
]


# The count of a code that no vector has placed yet: under any share of tokens, over `eps`.
UNPLACED = 1e-3


class Table(NamedTuple):
    """The state of a codebook; the functions below write into its tensors."""

    weight: Tensor  # (K, D) the codes
    count: Tensor  # type: ignore[assignment]  # (K,) running count of the tokens on each
    total: Tensor | None  # (K, D) running sum of their vectors; None where gradients move codes

    def place(self, rows: Tensor, vectors: Tensor, count: Tensor) -> None:
        """Sets codes and, with them, their running means, which would else pull them back."""
        self.weight[rows] = vectors
        self.count[rows] = count
        if self.total is not None:
            self.total[rows] = vectors * count[:, None]


def draw_candidates(candidates: Tensor, generator: torch.Generator | None) -> Tensor:
    """(R, D) in an order drawn on the CPU, where equal seeds give equal draws on any machine."""
    order = torch.randperm(len(candidates), generator=generator)
    return candidates[order.to(candidates.device)]


def move_by_average(table: Table, sums: CodeSums, decay: float, eps: float) -> None:
    """One step of the running counts and, where the table has them, of the running means."""
    table.count.lerp_(sums.count, 1 - decay)
    if table.total is None:
        return
    table.total.lerp_(sums.total, 1 - decay)
    table.weight.copy_(table.total / smoothed(table.count, eps)[:, None])


def smoothed(count: Tensor, eps: float) -> Tensor:
    """(K,) -> (K,): counts of the same sum, none of them zero."""
    tokens = count.sum()
    return (count + eps) / (tokens + len(count) * eps) * tokens


def move_by_kmeans(table: Table, sums: CodeSums, candidates: Tensor, *, fresh: bool) -> None:
    """One step of Lloyd's algorithm on this batch; codes without a vector take a candidate's place.

    `fresh` forgets the table first: the codes of the sums before it were drawn from nowhere.
    """
    if fresh:
        everywhere = torch.arange(len(sums.count), device=sums.count.device)
        table.place(everywhere, table.weight.clone(), torch.full_like(sums.count, UNPLACED))
    used = torch.zeros_like(sums.count, dtype=torch.bool) if fresh else sums.count > 0
    share = sums.count.sum() / len(sums.count)
    rows = used.nonzero()[:, 0]
    table.place(rows, sums.total[rows] / sums.count[rows, None], sums.count[rows])
    empty = _neediest(table, ~used)[: len(candidates)]
    table.place(empty, candidates[: len(empty)], share.expand(len(empty)))


def _neediest(table: Table, wanting: Tensor) -> Tensor:
    """Rows of (K,) bool, the least used first: before all, a code that never had its turn."""
    rows = wanting.nonzero()[:, 0]
    return rows[table.count[rows].argsort(stable=True)]


def _resample(table: Table, candidates: Tensor, share: float, decay: float) -> None:
    least = share * table.count.mean()
    dead = _neediest(table, table.count < least)[: len(candidates)]
    table.place(dead, candidates[: len(dead)], least.expand(len(dead)))


def _cvq(table: Table, candidates: Tensor, share: float, decay: float) -> None:
    """Codes are drawn towards candidates by exp(-10 K p / (1 - decay)), p their share of tokens."""
    used = table.count / table.count.sum()
    pull = torch.exp(-10 * len(used) * used / (1 - decay))[:, None]
    anchors = candidates[torch.arange(len(used), device=candidates.device) % len(candidates)]
    moved = table.weight * (1 - pull) + anchors * pull
    table.place(torch.arange(len(used), device=moved.device), moved, table.count.clone())


def _leave(table: Table, candidates: Tensor, share: float, decay: float) -> None:
    return


DEAD_CODE_RULES: dict[str, Callable[[Table, Tensor, float, float], None]] = {
    "cvq": _cvq,
    "off": _leave,
    "resample": _resample,
}

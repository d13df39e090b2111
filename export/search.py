"""The search for codes as an ONNX graph has it: without loops, and exact but for crowds of ties.

Scores `½|q|² - e·q` are float32 products on centred vectors, as in `vqtok.search`, of a block of
codes at a time: so memory is bounded by N x block scores and not N x K where a runtime frees a
block before the next, and the graph holds no loop, which neither CUDA graphs nor TensorRT would
like. The few best of each block, and then of all, are decided again in float64.

`vqtok.search` decides so among all codes that rounding cannot tell apart; here it is `FINALISTS` of
them. So the vectors' centre is the codes' median and not their mean, which one code far away would
draw off, and the scores' digits with it. What remains are crowds: of more codes than that, which
lie in one place to float32 but are not equal, one of them is found, and maybe not the nearest. Such
are codes that faded to next to nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.search import float64

__all__ = ["FINALISTS", "Search"]

# Codes of a vector that are compared in float64. More than two lie within rounding of each other
# where codes crowd, as those do that training never moved.
FINALISTS = 4
# Of a graph. Each is two operators, and with a few dozen of them nothing is gained any more.
MOST_BLOCKS = 64


class _Block(nn.Module):
    """Some codes: what their scores are made of."""

    def __init__(self, codes: Tensor, biased: bool) -> None:
        super().__init__()
        self.register_buffer("products", (-codes.T).contiguous())
        self.register_buffer("bias", codes.square().sum(1) * 0.5 if biased else None)

    products: Tensor
    bias: Tensor | None

    def forward(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Centred rows (N, D) -> the least scores (N, count), and the places of their codes."""
        bias = self.bias
        scores = rows @ self.products if bias is None else torch.addmm(bias, rows, self.products)
        least = scores.topk(min(count, scores.shape[1]), 1, largest=False)
        return least.values, least.indices


class Search(nn.Module):
    """Rows (N, D) float32 -> ids (N,) int64: of the nearest code, or of the highest product.

    codes    (K, D), float32
    among    (K,) bool: the codes that are chosen from, by default all
    highest  the code with the greatest inner product instead of the nearest one
    block    codes at a time
    """

    def __init__(
        self,
        codes: Tensor,
        *,
        among: Tensor | None = None,
        highest: bool = False,
        block: int = 1024,
    ) -> None:
        super().__init__()
        kept = _firsts(codes, among)
        self.highest = highest
        whole = len(kept) == len(codes)
        searched = codes if whole else codes[kept]  # a table that others hold, too, is held once
        centre = torch.zeros_like(searched[0]) if highest else searched.median(0).values
        self.register_buffer("codes", searched)
        self.register_buffer("centre", None if highest else centre)
        self.register_buffer("names", None if whole else kept)
        size = max(block, -(-len(kept) // MOST_BLOCKS))
        self.blocks = nn.ModuleList(
            _Block(part, not highest) for part in (searched - centre).split(size)
        )
        self.starts = list(range(0, len(kept), size))

    codes: Tensor
    centre: Tensor | None
    names: Tensor | None

    def forward(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N,)."""
        ids = self._decide(rows, self._finalists(rows))
        return ids if self.names is None else self.names.index_select(0, ids)

    def _finalists(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, n) ids, ascending; n is `FINALISTS`, or as many codes as there are."""
        centred = rows if self.centre is None else rows - self.centre
        found = [block(centred, FINALISTS) for block in self.blocks]
        ids = torch.cat([ids + at for (_, ids), at in zip(found, self.starts, strict=True)], 1)
        if len(found) > 1:
            scores = torch.cat([values for values, _ in found], 1)
            ids = ids.gather(1, scores.topk(FINALISTS, 1, largest=False).indices)
        return ids.sort(1).values

    def _decide(self, rows: Tensor, ids: Tensor) -> Tensor:
        """(N, D), ascending ids (N, n) -> (N,): the first with the least distance in float64."""
        wide, codes = float64(rows)[:, None], float64(F.embedding(ids, self.codes))
        apart = -(wide * codes).sum(2) if self.highest else (wide - codes).square().sum(2)
        return ids.gather(1, apart.argmin(1, keepdim=True))[:, 0]


def _firsts(codes: Tensor, among: Tensor | None) -> Tensor:
    """The ids, ascending, of the codes to choose from, without those equal to one before them."""
    ids = torch.arange(len(codes), device=codes.device)
    if among is not None:
        ids = ids[among]
    _, kind = torch.unique(codes[ids], dim=0, return_inverse=True)
    first = torch.full_like(kind, len(codes)).scatter_reduce(0, kind, ids, "amin")
    return ids[first[kind] == ids]

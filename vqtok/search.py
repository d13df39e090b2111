"""The nearest code of a vector: exact, in bounded memory, the same wherever it runs.

Or, by `highest`, the code with the greatest inner product, found the same way.

Scores `½|q|² - e·q` are taken in float32 on vectors centred by the codebook's mean (off the origin
they would lose all their digits), a block of rows at a time. Each row comes with a bound on the
rounding error of its scores; where some other code lies within that bound of the best one, those
codes' distances are taken again in float64.
So the answer is the float64 answer, and neither the block size, the number of threads, the batch
nor the BLAS library can change it.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from vqtok.errors import InputError
from vqtok.precision import ieee32

__all__ = ["float64", "highest", "nearest"]

# Scores held at a time. On a CPU a block should stay in cache; a GPU wants enough rows to fill it.
CPU_BLOCK = 1 << 18
GPU_BLOCK = 1 << 26
# Rows in a block at the least. The codebook is read once a block, and with fewer rows that is what
# takes the time. It bounds a block of scores by 64 bytes a code where that is more.
LEAST_ROWS = 16
# Float64 differences held at a time while near ties are decided.
EXACT_BLOCK = 1 << 22
# Near ties a row above which float64 scores sort them out first, and doubles among the codes go.
CROWD = 8


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """(N, D) vectors, (K, D) codebook -> (N,) int64: the index of the nearest code of each vector.

    Euclidean distance; of codes at exactly the same distance the lowest index wins. Both are read
    as float32. No gradient passes. A vector with a NaN is nearest to nothing and gets 0.
    """
    _check(vectors, codebook)
    ids: Tensor = torch.ops.vqtok.nearest(vectors.detach(), codebook.detach())
    return ids


def highest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """(N, D) vectors, (K, D) codebook -> (N,) int64: the code with the greatest inner product.

    In all else as `nearest`: of codes with exactly the same product the lowest index wins.
    """
    _check(vectors, codebook)
    ids: Tensor = torch.ops.vqtok.highest(vectors.detach(), codebook.detach())
    return ids


def _check(vectors: Tensor, codebook: Tensor) -> None:
    if codebook.ndim != 2 or 0 in codebook.shape:
        raise InputError(
            f"a codebook has the shape (K, D), both above 0; got {tuple(codebook.shape)}"
        )
    if vectors.ndim != 2 or vectors.shape[1] != codebook.shape[1]:
        raise InputError(
            f"vectors for a codebook of {codebook.shape[1]} dimensions have the shape "
            f"(N, {codebook.shape[1]}); got {tuple(vectors.shape)}"
        )


# An operator of its own, because compilers must not look inside: how many rows are near ties
# depends on the data, and a graph would break there. `define` and `impl` rather than `custom_op`,
# whose first call imports torch's compiler: 1.5 seconds.
torch.library.define("vqtok::nearest", "(Tensor vectors, Tensor codebook) -> Tensor")
torch.library.define("vqtok::highest", "(Tensor vectors, Tensor codebook) -> Tensor")


@torch.library.impl("vqtok::nearest", "default")
def _nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast(vectors.device.type, enabled=False), ieee32():
        return _search(vectors.float(), codebook.float())


@torch.library.impl("vqtok::highest", "default")
def _highest(vectors: Tensor, codebook: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast(vectors.device.type, enabled=False), ieee32():
        return _search(vectors.float(), codebook.float(), _Products)


@torch.library.register_fake("vqtok::nearest")  # type: ignore[untyped-decorator]
@torch.library.register_fake("vqtok::highest")  # type: ignore[untyped-decorator]
def _(vectors: Tensor, codebook: Tensor) -> Tensor:
    return vectors.new_empty(vectors.shape[0], dtype=torch.int64)


class _Table:
    """A codebook as it is searched, seen from its mean; float32 or float64."""

    def __init__(self, codebook: Tensor) -> None:
        self.codebook = codebook
        self.mean = codebook.mean(0)  # any point near the codes does
        self.centred = codebook - self.mean
        self.half_norms = self.centred.square().sum(1) * 0.5
        self.radius = _lengths(self.centred).max()

    def scores(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(n, D) -> scores (n, K), and (n, 1): more than two of a row can err against each other.

        A sum of D products errs by at most D/2·eps times the sum of their sizes, which Cauchy and
        Schwarz bound by |e||q|; the norm's half and the centring add a few eps of the same size.
        Products that underflow err by up to `tiny` each, however small the vectors are.
        """
        e = vectors - self.mean
        scores = torch.addmm(self.half_norms, e, self.centred.T, alpha=-1)
        size = _lengths(e)[:, None] * self.radius + self.radius.square()
        kind = torch.finfo(e.dtype)
        return scores, (e.shape[1] + 8) * (kind.eps * size + kind.tiny)

    def apart(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """(n, D), (n, D) -> (n,): what the code of a vector is to make least, pair by pair."""
        return (vectors - codes).square().sum(1)

    @cached_property
    def wide(self) -> _Table:
        return type(self)(float64(self.codebook))

    def close(self, vectors: Tensor) -> Tensor:
        """(n, D) -> (n, K) bool: the code may be nearest, and is not the same as one before it."""
        scores, slack = self.wide.scores(float64(vectors))
        close = ~(scores > scores.amin(1, keepdim=True) + slack)
        return close.to(vectors.device) & self.first

    @cached_property
    def first(self) -> Tensor:
        """(K,) bool: no code with a lower index is the same."""
        _, kind = torch.unique(self.codebook, dim=0, return_inverse=True)
        place = torch.arange(len(kind), device=kind.device)
        lowest = torch.full_like(kind, len(kind)).scatter_reduce(0, kind, place, "amin")
        return lowest[kind] == place


class _Products(_Table):
    """A codebook whose greatest inner product is searched: seen from the origin, without norms."""

    def __init__(self, codebook: Tensor) -> None:
        self.codebook = codebook
        self.centred = codebook
        self.radius = _lengths(codebook).max()

    def scores(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """See `_Table.scores`; with no norm of a code in the sum, the bound shrinks with |e|."""
        size = _lengths(vectors)[:, None] * self.radius
        kind = torch.finfo(vectors.dtype)
        slack = (vectors.shape[1] + 8) * (kind.eps * size + kind.tiny)
        return -(vectors @ self.centred.T), slack

    def apart(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """See `_Table.apart`."""
        return -(vectors * codes).sum(1)


def _lengths(rows: Tensor) -> Tensor:
    """(n, D) -> (n,), not less than they are where squares underflow."""
    return (rows.square().sum(1) + rows.shape[1] * torch.finfo(rows.dtype).tiny).sqrt()


def _search(vectors: Tensor, codebook: Tensor, kind: type[_Table] = _Table) -> Tensor:
    table = kind(codebook)
    block = GPU_BLOCK if vectors.is_cuda else CPU_BLOCK
    parts = torch.split(vectors, max(LEAST_ROWS, block // len(codebook)))
    return torch.cat([_search_block(part, table) for part in parts])


def _search_block(vectors: Tensor, table: _Table) -> Tensor:
    """(n, D) -> ids (n,)."""
    scores, slack = table.scores(vectors)
    ids = scores.argmin(1, keepdim=True)
    best = scores.gather(1, ids)
    runner_up = scores.scatter_(1, ids, torch.inf).amin(1, keepdim=True)
    scores.scatter_(1, ids, best)
    limit, ids = best + slack, ids[:, 0]
    # "Not greater", so that a row with NaN counts as a tie and takes the careful way, too.
    tied = (~(runner_up > limit)).flatten().nonzero()[:, 0]
    for rows in torch.split(tied, max(1, EXACT_BLOCK // len(table.codebook))):
        close = ~(scores[rows] > limit[rows])
        if close.count_nonzero() > CROWD * len(rows):
            close &= table.close(vectors[rows])
        ids[rows] = _exact(vectors[rows], table, close)
    return ids


def _exact(vectors: Tensor, table: _Table, close: Tensor) -> Tensor:
    """(n, D) -> (n,), in float64, among the codes marked in `close` (n, K)."""
    codebook = table.codebook
    row, code = close.nonzero().unbind(1)
    pairs = max(1, EXACT_BLOCK // codebook.shape[1])
    parts = zip(torch.split(row, pairs), torch.split(code, pairs), strict=True)
    pairwise = [table.apart(float64(vectors[r]), float64(codebook[c])) for r, c in parts]
    distance = torch.cat(pairwise)
    row, code = row.to(distance.device), code.to(distance.device)
    least = distance.new_full((len(vectors),), torch.inf).scatter_reduce(0, row, distance, "amin")
    wins = ~(distance > least[row])
    ids = code.new_full((len(vectors),), len(codebook))
    return ids.scatter_reduce(0, row[wins], code[wins], "amin").to(close.device)


def float64(x: Tensor) -> Tensor:
    """`x` in float64; on the CPU, where its device has none."""
    return x.cpu().double() if x.device.type == "mps" else x.double()

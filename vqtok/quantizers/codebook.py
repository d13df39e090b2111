"""The table of codes, as a leaf module: search and look-up happen inside its own forward.

Offloading hooks move a module's weights when its forward is called and know nothing of somebody
who reads `codebook.weight` from outside; here nobody needs to while ids are made or decoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ConfigError, did_you_mean
from vqtok.quantizers import RowQuantizer
from vqtok.search import float64, nearest

__all__ = ["STARTS", "Codebook", "TableQuantizer", "lack", "margins"]

STARTS = ("data", "kaiming", "uniform", "normal")
# A direction has the length 1, unless it is that of a vector of next to no length.
FADED = 0.5
# Squared distances held at a time while margins are taken.
MARGIN_BLOCK = 1 << 22


class Codebook(nn.Embedding):
    """K codes of D dimensions, float32. With `cosine` the codes are their directions."""

    def __init__(self, codebook_size: int, dim: int, *, cosine: bool = False) -> None:
        super().__init__(codebook_size, dim)
        self.cosine = cosine

    def forward(self, x: Tensor, margin: bool = False, to: Tensor | None = None) -> Tensor:
        """Vectors (N, D) -> ids (N,), or their margins (N,); ids (N,) -> vectors (N, D).

        Vectors with the ids `to` (N,) -> their distances from these codes (N,), float64.
        """
        with torch.autocast(x.device.type, enabled=False):
            table = self.table()
            if not x.is_floating_point():
                return F.embedding(x, table)
            if to is not None:
                return self.apart(x, table, to)
            if self.cosine:
                table, owner = self.with_direction(table)
                ids = owner[nearest(x, table)]
            else:
                ids = nearest(x, table)
            return margins(x, table, ids) if margin else ids

    def apart(self, x: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """Vectors (N, D), codes (K, D), ids (N,) -> distances (N,), float64."""
        apart: Tensor = (float64(x) - float64(table[ids])).norm(dim=1)
        return apart

    def with_direction(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """(K, D), (K,): codes to be compared with, and whose each is.

        A running mean that nothing comes to fades to zero, which has no direction: yet it would
        lie nearer to a vector than all codes at over 60 degrees. The first code that has one
        stands in its place.
        """
        faded = table.norm(dim=1) < FADED
        first = (~faded).to(torch.int64).argmax()
        owner = torch.where(faded, first, torch.arange(len(table), device=table.device))
        return table[owner], owner

    def table(self) -> Tensor:
        """(K, D): the codes as they are compared and looked up."""
        weight = self.weight.float()
        return F.normalize(weight, dim=-1) if self.cosine else weight

    def start(self, how: str) -> None:
        """Fills the table; "data" waits for the first batches with the values of "kaiming"."""
        if how in ("data", "kaiming"):
            # On (1, K, D), as vector-quantize-pytorch does: the bound falls with both K and D.
            nn.init.kaiming_uniform_(self.weight[None])
        elif how == "uniform":
            nn.init.uniform_(self.weight, -1 / self.num_embeddings, 1 / self.num_embeddings)
        elif how == "normal":
            nn.init.normal_(self.weight)
        else:
            raise ConfigError(f"a codebook cannot start as {how!r}. {did_you_mean(how, STARTS)}")
        if self.cosine:
            # Running means continue from these values, and the vectors they average are units.
            with torch.no_grad():
                self.weight.copy_(F.normalize(self.weight, dim=-1))


class TableQuantizer(RowQuantizer):
    """A `RowQuantizer` whose codes are the rows of `self.embedding`."""

    embedding: Codebook

    def find(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.find`."""
        ids: Tensor = self.embedding(self.compared(rows))
        return ids

    def look_up(self, ids: Tensor) -> Tensor:
        """See `RowQuantizer.look_up`."""
        vectors: Tensor = self.embedding(ids)
        return vectors

    def distance(self, rows: Tensor, ids: Tensor) -> Tensor:
        """See `RowQuantizer.distance`."""
        apart: Tensor = self.embedding(self.compared(rows), to=ids)
        return apart

    def clearance(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.clearance`."""
        far: Tensor = self.embedding(self.compared(rows), margin=True)
        # The cells of directions are cones: they widen with the distance from the origin.
        return far * rows.norm(dim=1) if self.embedding.cosine else far

    def compared(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.compared`."""
        return F.normalize(rows, dim=-1) if self.embedding.cosine else rows


def lack(rows: Tensor, weight: Tensor, bias: Tensor, ids: Tensor) -> Tensor:
    """Rows (N, D), linear scores of codes (K, D) and (K,), ids (N,) -> (N,), float64.

    The root of what a score lacks of the most that any code's could be, |e| max|w| + max b. Where
    codes are as long as each other and there is no bias, it is in proportion to the distance of
    directions; for others it is the same of points that are lifted onto one sphere.
    """
    e, own = float64(rows), float64(weight[ids])
    most = e.norm(dim=1) * float64(weight).norm(dim=1).max() + float64(bias).max()
    found: Tensor = (most - (e * own).sum(1) - float64(bias[ids])).clamp(min=0).sqrt()
    return found


def margins(vectors: Tensor, codes: Tensor, ids: Tensor, free: int | None = None) -> Tensor:
    """(N, D), (K, D), ids (N,) -> (N,): the distance to the nearest face of a vector's cell.

    The face between codes i and j lies at (|e - q_j|² - |e - q_i|²) / (2 |q_j - q_i|). With `free`,
    vectors can only move in so many of the first dimensions.
    """
    codes = float64(codes)
    out = torch.empty(len(vectors), dtype=torch.float64, device=codes.device)
    ways = codes[:, :free]
    rows = max(1, MARGIN_BLOCK // len(codes))
    for start in range(0, len(vectors), rows):
        e, own = float64(vectors[start : start + rows]), ids[start : start + rows].to(codes.device)
        far = _distances(e, codes).square()
        apart = _distances(ways[own], ways)
        # A code's own column, and those of its doubles, bound no cell.
        face = (far - far.gather(1, own[:, None])) / (2 * apart)
        out[start : start + rows] = face.masked_fill(apart == 0, torch.inf).amin(1)
    return out.to(vectors.device, torch.float32)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (K, D) -> (N, K), without the cancellation that a matrix product would bring."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

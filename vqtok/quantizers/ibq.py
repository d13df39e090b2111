"""Index backpropagation (arXiv 2412.02692): the code with the highest score, the gradient to all.

Scores are inner products of a vector with the codes. In training the softmax of a vector's scores
over all K codes carries the gradient, so that each code moves at each step, not the chosen alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqtok.errors import ConfigError
from vqtok.estimators import Loss
from vqtok.quantizers import QUANTIZERS, to_grid, to_rows
from vqtok.quantizers.codebook import MARGIN_BLOCK, Codebook, TableQuantizer, lack
from vqtok.search import float64, highest
from vqtok.types import Quantized

__all__ = ["IndexBackpropQuantizer", "Mixed", "ScoredCodebook", "mix", "product_margins"]

# Scores held at a time in training; with more, blocks of rows are computed again in the backward.
SCORES = 1 << 26
# Added to the mean shares before their logarithm, as the published code does: with 2^18 codes an
# even share is less than this, and the loss would be another without it.
SMALL = 1e-5


class Mixed(NamedTuple):
    """What the softmax over all codes gives."""

    vectors: Tensor  # (N, D) the codes mixed by their shares; no gradient but through the shares
    unsure: Tensor  # scalar, the mean entropy of a row's shares at the entropy's temperature
    shares: Tensor  # (K,) these shares' mean over the rows


class ScoredCodebook(Codebook):
    """K codes of D dimensions, of which a vector's is the one with the highest inner product."""

    def forward(
        self,
        x: Tensor,
        margin: bool = False,
        to: Tensor | None = None,
        temperature: float | None = None,
    ) -> Any:
        """As `Codebook.forward`; with a `temperature` of the entropy, rows (N, D) -> `Mixed`."""
        with torch.autocast(x.device.type, enabled=False):
            table = self.table()
            if not x.is_floating_point():
                return F.embedding(x, table)
            if temperature is not None:
                return mix(x, table, temperature)
            if to is not None:
                return lack(x, table, table.new_zeros(len(table)), to)
            ids = highest(x, table)
            return product_margins(x, table, ids) if margin else ids


@QUANTIZERS.register("ibq")
class IndexBackpropQuantizer(TableQuantizer):
    """The code with the highest inner product; a softmax over all codes carries the gradient.

    z is the chosen code itself; its gradient goes to that code and, through the softmax of the
    scores, to the vector and to every code: there is no estimator to choose. Losses are

    commit, codebook  the distance of vectors and codes, the one moved and the other held
    double            the same distance with both moved, and through the softmax
    entropy           of each vector's shares of all codes, which should be sure, minus
                      `diversity_gamma` times that of the mean shares, which should be even; at
                      `entropy_temperature`, and left out where `entropy_loss_weight` is 0, and in
                      eval without gradients, where nobody waits for a softmax over all codes

    start      "normal", "uniform" or "kaiming": there is none from data

    Memory: a training pass over N tokens makes some six float32 matrices of N x K. Above 2^26
    scores it goes by blocks of rows that the backward pass computes again, which bounds them to
    1.6 GB, beside two gradients of the codebook's size. Ids alone take the memory of a search.
    """

    default_estimator: ClassVar[str] = "ste"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment_weight: float = 1.0,
        codebook_weight: float = 0.25,
        double_weight: float = 1.0,
        entropy_loss_weight: float = 0.05,
        diversity_gamma: float = 1.0,
        entropy_temperature: float = 0.01,
        start: str = "normal",
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dim, codebook_size, commitment_weight=commitment_weight)
        if estimator is not None or estimator_args:
            raise ConfigError(
                "the quantizer 'ibq' passes its gradient through the softmax of all codes and "
                f"takes no estimator; got estimator={estimator!r}"
            )
        if entropy_temperature <= 0:
            raise ConfigError(f"entropy_temperature is positive; got {entropy_temperature}")
        if start == "data":
            raise ConfigError("the codes of 'ibq' start as 'normal', 'uniform' or 'kaiming'")
        self.codebook_weight = codebook_weight
        self.double_weight = double_weight
        self.entropy_loss_weight = entropy_loss_weight
        self.diversity_gamma = diversity_gamma
        self.entropy_temperature = entropy_temperature
        self.embedding = ScoredCodebook(codebook_size, dim)
        self.embedding.start(start)

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            rows = to_rows(z).float()
            ids = self.find(rows)
            out = q = self.look_up(ids)
            entropy: dict[str, Tensor] = {}
            if self.training or rows.requires_grad or q.requires_grad:
                mixed: Mixed = self.embedding(rows, temperature=self.entropy_temperature)
                # The difference is zero: the value of the code is exact.
                out = q + (mixed.vectors - mixed.vectors.detach())
                entropy = self._entropy(mixed)
            losses = {**self.losses(rows, q), "double": F.mse_loss(out, rows), **entropy}
        codes = ids.view(z.shape[0], *z.shape[2:])
        return Quantized(to_grid(out, z).to(z.dtype), codes, losses, None)

    def losses(self, e: Tensor, q: Tensor) -> dict[str, Tensor]:
        """See `RowQuantizer.losses`."""
        return {**super().losses(e, q), "codebook": F.mse_loss(q, e.detach())}

    def _entropy(self, mixed: Mixed) -> dict[str, Tensor]:
        """The loss of that name, where it counts."""
        if not self.entropy_loss_weight:
            return {}
        even = -(mixed.shares * (mixed.shares + SMALL).log()).sum()
        return {"entropy": mixed.unsure - self.diversity_gamma * even}

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        total = super().total_loss(losses) + self.codebook_weight * losses["codebook"]
        total = total + self.double_weight * losses["double"]
        if "entropy" in losses:
            total = total + self.entropy_loss_weight * losses["entropy"]
        return total


def mix(rows: Tensor, table: Tensor, temperature: float) -> Mixed:
    """(N, D), (K, D) -> `Mixed`, in blocks of rows."""
    blocks = torch.split(rows, max(1, SCORES // len(table)))
    again = len(blocks) > 1 and torch.is_grad_enabled()
    parts = [
        checkpoint(_mix_block, block, table, temperature, use_reentrant=False)
        if again
        else _mix_block(block, table, temperature)
        for block in blocks
    ]
    vectors, unsure, shares = zip(*parts, strict=True)
    return Mixed(
        torch.cat(vectors),
        torch.stack(unsure).sum() / len(rows),
        torch.stack(shares).sum(0) / len(rows),
    )


def _mix_block(rows: Tensor, table: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(n, D), (K, D) -> mixed codes (n, D), and the sums of entropies () and of shares (K,)."""
    scores = rows @ table.T
    vectors = scores.softmax(1) @ table.detach()
    logs = F.log_softmax(scores / temperature, 1)
    shares = logs.exp()
    return vectors, -(shares * logs).sum(), shares.sum(0)


def product_margins(vectors: Tensor, codes: Tensor, ids: Tensor) -> Tensor:
    """(N, D), (K, D), ids (N,) -> (N,): the distance to the nearest face of a vector's cell.

    The face between codes i and j goes through the origin, at e·(q_i - q_j) / |q_i - q_j|.
    """
    codes = float64(codes)
    out = torch.empty(len(vectors), dtype=torch.float64, device=codes.device)
    rows = max(1, MARGIN_BLOCK // len(codes))
    for start in range(0, len(vectors), rows):
        e, own = float64(vectors[start : start + rows]), ids[start : start + rows].to(codes.device)
        scores = e @ codes.T
        apart = torch.cdist(codes[own], codes, compute_mode="donot_use_mm_for_euclid_dist")
        face = (scores.gather(1, own[:, None]) - scores) / apart
        # A code's own column, and those of its doubles, bound no cell.
        out[start : start + rows] = face.masked_fill(apart == 0, torch.inf).amin(1)
    return out.to(vectors.device, torch.float32)

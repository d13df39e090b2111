"""Gumbel-softmax (arXiv 1611.01144): scores of K codes, and in training a sample from them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.estimators import Loss
from vqtok.quantizers import QUANTIZERS, RowQuantizer, to_grid, to_rows
from vqtok.quantizers.codebook import lack, margins
from vqtok.search import float64, nearest
from vqtok.types import Quantized

__all__ = ["GumbelQuantizer", "Mixtures", "Scores"]


class Scores(nn.Linear):
    """K linear scores of a vector. Reads its weights in its own forward alone, as `Codebook`."""

    def forward(
        self, rows: Tensor, find: bool = False, margin: bool = False, to: Tensor | None = None
    ) -> Tensor:
        """(N, D) -> scores (N, K), or the ids (N,) of the highest, or these ids' margins (N,).

        With the ids `to` (N,) what their scores lack (N,), float64.
        """
        with torch.autocast(rows.device.type, enabled=False):
            if to is not None:
                return lack(rows, self.weight, self.bias, to)
            if not (find or margin):
                return F.linear(rows, self.weight.float(), self.bias.float())
            points, table = F.pad(rows, (0, 1)), self.as_points()
            ids = nearest(points, table)
            return margins(points, table, ids, free=self.in_features) if margin else ids

    def as_points(self) -> Tensor:
        """(K, D + 1): the point nearest to (e, 0) is the one with the highest score w·e + b.

        For |w|² + h² - 2 w·e is twice the score, but for its sign and a constant, where
        h² = c - |w|² - 2 b. So the exact search makes these ids, too.
        """
        weight, bias = float64(self.weight), float64(self.bias)
        least = weight.square().sum(1) + 2 * bias
        height = (least.max() - least).sqrt()
        points = torch.cat([weight, height[:, None]], 1)
        return points.to(self.weight.device, torch.float32)


class Mixtures(nn.Embedding):
    """K codes of D dimensions, by their ids or mixed by shares."""

    def forward(self, x: Tensor, fixed: bool = False) -> Tensor:
        """Ids (...) -> (..., D); shares (N, K) -> (N, D), with `fixed` at no gradient for codes."""
        weight = self.weight.detach() if fixed else self.weight
        return x @ weight.float() if x.is_floating_point() else F.embedding(x, weight.float())


@QUANTIZERS.register("gumbel")
class GumbelQuantizer(RowQuantizer):
    """Codes by their scores, a linear layer of the vector; one table gives their vectors.

    In training a code is drawn by the softmax of the scores, with noise from `generator`: codes are
    the drawn ones and differ from those of `encode`. The gradient is that of a softened draw, so
    there is no estimator to choose.

    straight_through  the decoder sees the drawn code; otherwise the softened draw, a mixture
    temperature       how soft, to begin with; a buffer, so that a checkpoint keeps it, and a
                      schedule writes it: `quantizer.temperature.fill_(...)`
    kl_weight         of the loss "entropy", the distance of the scores' softmax to uniform
    """

    default_estimator: ClassVar[str] = "ste"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        straight_through: bool = True,
        temperature: float = 1.0,
        kl_weight: float = 5e-4,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dim, codebook_size)
        if estimator is not None or estimator_args:
            raise ConfigError(
                "the quantizer 'gumbel' passes its gradient through the sample and takes no "
                f"estimator; got estimator={estimator!r}"
            )
        if temperature <= 0:
            raise ConfigError(f"temperature is positive; got {temperature}")
        self.straight_through = straight_through
        self.kl_weight = kl_weight
        self.proj = Scores(dim, codebook_size)
        self.embedding = Mixtures(codebook_size, dim)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    temperature: Tensor

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            rows = to_rows(z).float()
            scores = self.proj(rows)
            if self.training:
                ids, out = self.draw(scores, generator)
            else:
                ids = self.find(rows)
                out = self.look_up(ids)
        codes = ids.view(z.shape[0], *z.shape[2:])
        return Quantized(to_grid(out, z).to(z.dtype), codes, {"entropy": _to_uniform(scores)}, None)

    def draw(self, scores: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Scores (N, K) -> drawn ids (N,) and what the decoder sees of them (N, D)."""
        noise = torch.empty_like(scores).exponential_(generator=generator).log()
        shares = F.softmax((scores - noise) / self.temperature, dim=1)
        ids = shares.argmax(1)
        if not self.straight_through:
            return ids, self.embedding(shares)
        soft = self.embedding(shares, fixed=True)
        # The difference is zero: a drawn code's value is exact.
        return ids, self.look_up(ids) + (soft - soft.detach())

    def find(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.find`."""
        ids: Tensor = self.proj(rows, find=True)
        return ids

    def look_up(self, ids: Tensor) -> Tensor:
        """See `RowQuantizer.look_up`."""
        vectors: Tensor = self.embedding(ids)
        return vectors

    def distance(self, rows: Tensor, ids: Tensor) -> Tensor:
        """See `RowQuantizer.distance`."""
        apart: Tensor = self.proj(rows, to=ids)
        return apart

    def clearance(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.clearance`."""
        far: Tensor = self.proj(rows, margin=True)
        return far

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return losses["entropy"] * self.kl_weight


def _to_uniform(scores: Tensor) -> Tensor:
    """(N, K) -> the mean Kullback-Leibler divergence of the softmax to the uniform distribution."""
    logs = F.log_softmax(scores, dim=1)
    return (logs.exp() * logs).sum(1).mean() + math.log(scores.shape[1])

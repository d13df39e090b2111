"""SimVQ (arXiv 2411.02038): a codebook that is drawn once, behind a linear map that learns."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.quantizers import QUANTIZERS
from vqtok.quantizers.codebook import Codebook, TableQuantizer
from vqtok.search import float64

__all__ = ["MappedCodebook", "SimVectorQuantizer"]


class MappedCodebook(Codebook):
    """K frozen vectors; the codes are what one learned matrix makes of them."""

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__(codebook_size, dim)
        nn.init.normal_(self.weight, std=dim**-0.5)
        self.weight.requires_grad_(False)
        # A parameter of this leaf and not a layer inside it, which offloading would move apart.
        self.map = nn.Parameter(torch.empty(dim, dim))
        nn.init.uniform_(self.map, -1 / math.sqrt(dim), 1 / math.sqrt(dim))

    def table(self) -> Tensor:
        """(K, D): the codes as they are compared and looked up.

        In float64, since ids are decided by them: a float32 product rounds otherwise on another
        machine, and even where a loader puts the weights at another address.
        """
        wide = F.linear(float64(self.weight), float64(self.map))
        return wide.to(self.weight.device, torch.float32)


@QUANTIZERS.register("simvq")
class SimVectorQuantizer(TableQuantizer):
    """The nearest of K codes that move together, so that none is left behind.

    Straight through by default: under rotation its codebook was measured to collapse. The losses
    are weighed as in vector-quantize-pytorch, the commitment less than the codebook.
    """

    default_estimator: ClassVar[str] = "ste"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment_weight: float = 0.25,
        codebook_weight: float = 1.0,
        **shared: Any,
    ) -> None:
        super().__init__(dim, codebook_size, commitment_weight=commitment_weight, **shared)
        self.codebook_weight = codebook_weight
        self.embedding = MappedCodebook(codebook_size, dim)

    def losses(self, e: Tensor, q: Tensor) -> dict[str, Tensor]:
        """See `RowQuantizer.losses`."""
        return {**super().losses(e, q), "codebook": F.mse_loss(q, e.detach())}

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return super().total_loss(losses) + self.codebook_weight * losses["codebook"]

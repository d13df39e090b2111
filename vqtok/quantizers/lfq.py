"""Lookup-free quantization (arXiv 2310.05737): one bit a dimension, its sign."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.quantizers import QUANTIZERS, RowQuantizer

__all__ = ["LookupFreeQuantizer", "bit_entropy", "bits_of", "ids_of"]

TINY = 1e-6


@QUANTIZERS.register("lfq")
class LookupFreeQuantizer(RowQuantizer):
    """Codes are the corners ±1 of a cube: K is 2 to the number of dimensions.

    The first dimension is the highest bit of a code. Beside the commitment there is an entropy
    loss: the entropy of each token's soft code, which should be sure, minus `diversity_gamma` times
    the entropy of the batch's mean soft code, which should be even. Soft codes give the bit d of a
    vector the probability sigmoid(4 · inv_temperature · z_d), so that the first term is a sum over
    bits. The second, over K codes, is taken over the bits' marginals as well: it bounds the entropy
    of the joint distribution from above and does not see bits that move together. It belongs to
    the batch at hand, so that micro-batches or ranks have another one than their joint batch.
    """

    default_estimator: ClassVar[str] = "ste"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment_weight: float = 0.25,
        entropy_loss_weight: float = 0.1,
        diversity_gamma: float = 1.0,
        inv_temperature: float = 100.0,
        **shared: Any,
    ) -> None:
        super().__init__(dim, codebook_size, commitment_weight=commitment_weight, **shared)
        if codebook_size != 1 << dim:
            raise ConfigError(
                f"'lfq' has one bit a dimension: dim={dim} goes with codebook_size={1 << dim}; "
                f"got {codebook_size}"
            )
        if inv_temperature <= 0:
            raise ConfigError(f"inv_temperature is positive; got {inv_temperature}")
        self.entropy_loss_weight = entropy_loss_weight
        self.diversity_gamma = diversity_gamma
        self.inv_temperature = inv_temperature

    def find(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.find`."""
        return ids_of(rows > 0)

    def look_up(self, ids: Tensor) -> Tensor:
        """See `RowQuantizer.look_up`."""
        return bits_of(ids, self.dim)

    def clearance(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.clearance`."""
        return rows.abs().amin(1)

    def losses(self, e: Tensor, q: Tensor) -> dict[str, Tensor]:
        """See `RowQuantizer.losses`."""
        logits = 4 * self.inv_temperature * e
        unsure = bit_entropy(logits).sum(1).mean()
        # Kept off 0 and 1, where the logit and with it the gradient is infinite.
        mean = torch.sigmoid(logits).mean(0).clamp(TINY, 1 - TINY)
        even = bit_entropy(mean.logit()).sum()
        return {**super().losses(e, q), "entropy": unsure - self.diversity_gamma * even}

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return super().total_loss(losses) + self.entropy_loss_weight * losses["entropy"]


def ids_of(bits: Tensor) -> Tensor:
    """Bits (..., D), true or false -> ids (...). The first is the highest."""
    return (bits.long() << _places(bits.shape[-1], bits)).sum(-1)


def bits_of(ids: Tensor, count: int) -> Tensor:
    """Ids (...) -> their bits (..., count) as -1 and 1, float32."""
    return (ids[..., None] >> _places(count, ids) & 1).float() * 2 - 1


def bit_entropy(logits: Tensor) -> Tensor:
    """The entropy of bits with the probability sigmoid(logits), without a rounded zero's log."""
    return F.softplus(logits) - logits * torch.sigmoid(logits)


def _places(count: int, like: Tensor) -> Tensor:
    return torch.arange(count - 1, -1, -1, device=like.device)

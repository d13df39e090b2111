"""Binary spherical quantization (arXiv 2406.07548): the signs of a unit vector, on the sphere."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.estimators import Loss
from vqtok.quantizers import QUANTIZERS, RowQuantizer, to_rows
from vqtok.quantizers.lfq import bit_entropy, bits_of, ids_of
from vqtok.search import float64
from vqtok.types import Quantized

__all__ = ["BinarySphericalQuantizer"]

# Of what is taken the logarithm of: a share of codes that no vector is near.
TINY = 1e-8


@QUANTIZERS.register("bsq")
class BinarySphericalQuantizer(RowQuantizer):
    """Codes are the corners ±1/√D of a cube in the unit sphere, and vectors are put on it, too.

    A token has as many ids as codes of `codebook_size` are needed for its D bits: one for
    codebook_size=2^D; for 36 bits and codebook_size=2^18 two. The first dimensions make the first
    id, the first of them its highest bit.

    The entropy loss is that of each token's soft code, which should be sure, minus
    `diversity_gamma` times that of the batch's mean soft code, which should be even. The latter is
    taken over groups of `group_size` bits at a time, and is then a sum over groups: an upper bound
    that does not see groups move together. It belongs to the batch at hand, so that micro-batches
    or ranks have another one than their joint batch.

    inv_temperature  a soft code gives the bit d of a unit vector the probability
                     sigmoid(4 · inv_temperature · z_d / √D) of being set
    gradient_scale   weighs the gradient that crosses the codes; by default 1/√D, the paper's
    """

    default_estimator: ClassVar[str] = "ste"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        group_size: int = 1,
        commitment_weight: float = 0.0,
        entropy_loss_weight: float = 0.1,
        diversity_gamma: float = 1.0,
        inv_temperature: float = 1.0,
        gradient_scale: float | None = None,
        **shared: Any,
    ) -> None:
        bits = _bits(dim, codebook_size)
        several = dim // bits if dim > bits else 0
        super().__init__(
            dim, codebook_size, depth=several, commitment_weight=commitment_weight, **shared
        )
        if group_size < 1 or dim % group_size:
            raise ConfigError(
                f"group_size divides the dimensions evenly; got group_size={group_size} and "
                f"dim={dim}"
            )
        if inv_temperature <= 0:
            raise ConfigError(f"inv_temperature is positive; got {inv_temperature}")
        self.bits = bits
        self.group_size = group_size
        self.entropy_loss_weight = entropy_loss_weight
        self.diversity_gamma = diversity_gamma
        self.inv_temperature = inv_temperature
        self.gradient_scale = dim**-0.5 if gradient_scale is None else gradient_scale

    def find(self, rows: Tensor) -> Tensor:
        """(N, D) -> ids (N,) or (N, Q)."""
        shares: Tensor = rows.unflatten(1, (-1, self.bits))
        ids = ids_of(shares > 0)
        return ids if self.depth else ids[:, 0]

    def look_up(self, ids: Tensor) -> Tensor:
        """Ids (...) or (..., Q) -> vectors (..., D)."""
        bits = bits_of(ids, self.bits)
        flat = bits.flatten(-2) if self.depth else bits
        return flat * float(self.dim**-0.5)

    def clearance(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.clearance`."""
        return rows.abs().amin(1)

    def compared(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.compared`."""
        return F.normalize(rows, dim=1)

    def distance(self, rows: Tensor, ids: Tensor) -> Tensor:
        """See `RowQuantizer.distance`; where a token has several ids, each by its own bits."""
        apart = float64(self.compared(rows)) - float64(self.look_up(ids))
        each: Tensor = apart.unflatten(1, (-1, self.bits)).norm(dim=2)
        return each.view(ids.shape)

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            rows = to_rows(z).float()
            ids = self.find(rows)
            e, q = self.compared(rows), self.look_up(ids)
            crossing = e.detach() + (e - e.detach()) * self.gradient_scale
            out = self.carry(crossing, q, z, loss, generator)
            losses = self.losses(e, q)
        return Quantized(out, _to_codes(ids, z), losses, None)

    def encode(self, z: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            return _to_codes(self.find(to_rows(z).float()), z)

    def losses(self, e: Tensor, q: Tensor) -> dict[str, Tensor]:
        """See `RowQuantizer.losses`."""
        logits = 4 * self.inv_temperature * self.dim**-0.5 * e
        unsure = bit_entropy(logits).sum(1).mean()
        even = self._spread(logits)
        return {**super().losses(e, q), "entropy": unsure - self.diversity_gamma * even}

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return super().total_loss(losses) + self.entropy_loss_weight * losses["entropy"]

    def _spread(self, logits: Tensor) -> Tensor:
        """Bits (N, D) as logits -> the entropy of the mean soft code, summed over groups."""
        groups: Tensor = logits.unflatten(1, (-1, self.group_size))
        places = torch.arange(1 << self.group_size, device=logits.device)
        # Half of the logit for a set bit and minus half for a cleared one: the code's logarithm,
        # but for what the softmax takes off.
        mean = (groups @ (bits_of(places, self.group_size) / 2).T).softmax(-1).mean(0)
        return -(mean * (mean + TINY).log()).sum()


def _to_codes(ids: Tensor, like: Tensor) -> Tensor:
    """Ids (N,) or (N, Q) -> (B, *grid) or (B, *grid, Q), with the batch and grid of `like`."""
    return ids.view(like.shape[0], *like.shape[2:], *ids.shape[1:])


def _bits(dim: int, codebook_size: int) -> int:
    """How many bits one id stands for; raises where ids of that many do not make `dim` bits."""
    bits = codebook_size.bit_length() - 1
    if bits < 1 or codebook_size != 1 << bits or dim % bits:
        raise ConfigError(
            "'bsq' has one bit a dimension, and ids of codebook_size codes stand for equal shares "
            f"of them: codebook_size is 2^n, where n divides dim={dim}; got {codebook_size}"
        )
    return bits

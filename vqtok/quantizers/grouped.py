"""Product quantization: vectors are cut into groups, and each group has a quantizer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from vqtok.errors import ConfigError
from vqtok.estimators import Loss
from vqtok.quantizers import QUANTIZERS, Quantizer, RowQuantizer
from vqtok.quantizers._several import mean_losses, stack_sums, step_each
from vqtok.types import CodeSums, Quantized

__all__ = ["GroupedQuantizer"]


@QUANTIZERS.register("grouped")
class GroupedQuantizer(Quantizer):
    """`groups` quantizers of one `kind`, each on its share of the dimensions.

    Each has K codes, and a token has one of each. Further settings are those of the kind. Each
    group carries its own gradient; losses are means over the groups. `CodeSums` have the groups as
    their first axis: candidates are (G, R, D / G) and joined along R.
    """

    # With what changes ids in one of the kinds.
    identity: ClassVar[dict[str, Any]] = {
        "groups": None,
        "kind": "vector",
        "levels": (8, 5, 5, 5),
        "use_cosine_sim": False,
    }

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        groups: int,
        kind: str = "vector",
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if groups < 1 or dim % groups:
            raise ConfigError(
                f"groups share the dimensions evenly; got groups={groups} and dim={dim}"
            )
        part = QUANTIZERS[kind]
        more = f"the groups of 'grouped' are quantizers with one code a token; {kind!r} has more"
        if not issubclass(part, RowQuantizer):
            raise ConfigError(more)
        settings |= {"estimator": estimator, "estimator_args": estimator_args}
        parts = [part(dim // groups, codebook_size, **settings) for _ in range(groups)]
        one = parts[0]
        if one.depth:
            raise ConfigError(more)
        if one.estimator.needs_loss:
            raise ConfigError(
                f"the estimator {one.estimator.name!r} needs the loss as a function of whole "
                "vectors, and each group of 'grouped' has but its share; take another estimator"
            )
        super().__init__(
            dim,
            codebook_size,
            depth=groups,
            estimator=one.estimator.name,
            estimator_args=estimator_args,
            commitment_weight=one.commitment_weight,
        )
        self.parts = nn.ModuleList(parts)

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        each = [part(own, generator=generator) for part, own in self._pairs(z)]
        codes = torch.stack([done.codes for done in each], -1)
        losses = mean_losses([done.losses for done in each])
        sums = stack_sums([done.sums for done in each])
        return Quantized(torch.cat([done.z for done in each], 1), codes, losses, sums)

    def encode(self, z: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        self.check_latents(z)
        return torch.stack([part.encode(own) for part, own in self._pairs(z)], -1)

    def decode(self, codes: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """See `Quantizer.decode`."""
        self.check_codes(codes)
        pairs = zip(self._quantizers(), codes.unbind(-1), strict=True)
        return torch.cat([part.decode(own) for part, own in pairs], 1)

    def margin(self, z: Tensor) -> Tensor:
        """See `Quantizer.margin`."""
        self.check_latents(z)
        return torch.stack([part.margin(own) for part, own in self._pairs(z)]).amin(0)

    def excess(self, z: Tensor, codes: Tensor) -> Tensor:
        """See `Quantizer.excess`: each group by its own share of the dimensions."""
        self.check_latents(z)
        self.check_codes(codes)
        pairs = zip(self._pairs(z), codes.unbind(-1), strict=True)
        return torch.stack([part.excess(own, ids) for (part, own), ids in pairs], -1)

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return self._quantizers()[0].total_loss(losses)

    def step(self, sums: CodeSums, generator: torch.Generator | None = None) -> None:
        """See `Quantizer.step`."""
        step_each(self._quantizers(), sums, generator)

    def _quantizers(self) -> list[Quantizer]:
        return cast("list[Quantizer]", list(self.parts))

    def _pairs(self, z: Tensor) -> list[tuple[Quantizer, Tensor]]:
        return list(zip(self._quantizers(), z.chunk(self.depth, 1), strict=True))

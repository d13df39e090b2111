"""Residual quantization (arXiv 2107.03312): each code stands for what those before it left over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from vqtok.errors import ConfigError
from vqtok.estimators import Loss
from vqtok.quantizers import QUANTIZERS, Quantizer, to_rows
from vqtok.quantizers._several import mean_losses, stack_sums, step_each
from vqtok.quantizers.vector import VectorQuantizer
from vqtok.types import CodeSums, Quantized

__all__ = ["ResidualQuantizer", "Stage"]


class Stage(NamedTuple):
    """One quantizer at work on what the quantizers before it left over."""

    quantizer: VectorQuantizer
    rest: Tensor  # (N, D)
    ids: Tensor  # (N,)
    q: Tensor  # (N, D)

    def sums(self, items: int) -> CodeSums:
        """See `VectorQuantizer.sums`."""
        return self.quantizer.sums(self.rest.detach(), self.ids, items)


@QUANTIZERS.register("residual")
class ResidualQuantizer(Quantizer):
    """`num_quantizers` Euclidean `VectorQuantizer`s in a row; a token is the sum of its codes.

    With `shared_codebook` all of them are one table. Further settings are those of `vector`. The
    codes themselves are subtracted and the estimator is applied once, to vector and sum. Losses
    are means over the quantizers; until a start from data is done, all of them are open.

    `CodeSums` have the quantizers as their first axis: candidates are (Q, R, D) and joined along R.
    """

    identity: ClassVar[dict[str, Any]] = {"num_quantizers": None, "shared_codebook": False}

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        num_quantizers: int,
        shared_codebook: bool = False,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        commitment_weight: float = 1.0,
        **settings: Any,
    ) -> None:
        if num_quantizers < 1:
            raise ConfigError(f"num_quantizers is at least 1; got {num_quantizers}")
        if settings.get("use_cosine_sim"):
            raise ConfigError(
                "the quantizer 'residual' takes no use_cosine_sim: what is left over gets shorter, "
                "and codes of unit length do not"
            )
        shared: dict[str, Any] = {
            "estimator": estimator,
            "estimator_args": estimator_args,
            "commitment_weight": commitment_weight,
        }
        super().__init__(dim, codebook_size, depth=num_quantizers, **shared)
        tables = 1 if shared_codebook else num_quantizers
        self.stages = nn.ModuleList(
            VectorQuantizer(dim, codebook_size, **shared, **settings) for _ in range(tables)
        )

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            e = to_rows(z).float()
            stages = list(self.descend(e))
            out = self.carry(e, _add(stage.q for stage in stages), z, loss, generator)
            losses = mean_losses([s.quantizer.losses(s.rest, s.q) for s in stages])
            sums = None
            if self.training:
                out, losses = self.first.unless_open(out, losses, z)
                sums = stack_sums([stage.sums(z.shape[0]) for stage in stages])
        return Quantized(out, self._codes(stages, z), losses, sums)

    def encode(self, z: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            return self._codes(list(self.descend(to_rows(z).float())), z)

    def decode(self, codes: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """See `Quantizer.decode`."""
        self.check_codes(codes)
        pairs = zip(self._quantizers(), codes.long().unbind(-1), strict=True)
        return _add(quantizer.look_up(ids) for quantizer, ids in pairs).movedim(-1, 1).contiguous()

    def margin(self, z: Tensor) -> Tensor:
        """See `Quantizer.margin`. While no id changes, what is left over moves as the vector."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            stages = self.descend(to_rows(z).float())
            far = torch.stack([stage.quantizer.clearance(stage.rest) for stage in stages])
            return far.amin(0).view(z.shape[0], *z.shape[2:])

    @torch.no_grad()
    def excess(self, z: Tensor, codes: Tensor) -> Tensor:
        """See `Quantizer.excess`."""
        self.check_latents(z)
        self.check_codes(codes)
        with torch.autocast(z.device.type, enabled=False):
            rest, found = to_rows(z).float(), []
            for quantizer, ids in zip(
                self._quantizers(), codes.long().flatten(0, -2).unbind(-1), strict=True
            ):
                found.append(quantizer.farther(rest, ids))
                rest = rest - quantizer.look_up(ids)
        return torch.stack(found, -1).view(codes.shape)

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return self.first.total_loss(losses)

    def step(self, sums: CodeSums, generator: torch.Generator | None = None) -> None:
        """See `Quantizer.step`. A shared table takes the sums of all quantizers at once."""
        if len(self.stages) == self.depth:
            step_each(self._quantizers(), sums, generator)
        else:
            count, total, candidates = sums
            joint = CodeSums(count.sum(0), total.sum(0), candidates.flatten(0, 1))
            self.first.step(joint, generator)

    @property
    def first(self) -> VectorQuantizer:
        """The quantizer of the vectors themselves; all share its settings."""
        return self._quantizers()[0]

    def descend(self, e: Tensor) -> Iterator[Stage]:
        """(N, D) -> the stages, from coarse to fine."""
        rest = e
        for quantizer in self._quantizers():
            ids = quantizer.find(rest)
            q = quantizer.look_up(ids)
            yield Stage(quantizer, rest, ids, q)
            rest = rest - q.detach()

    def _quantizers(self) -> list[VectorQuantizer]:
        own = cast("list[VectorQuantizer]", list(self.stages))
        return own * (self.depth // len(own))

    def _codes(self, stages: list[Stage], z: Tensor) -> Tensor:
        ids = torch.stack([stage.ids for stage in stages], -1)
        return ids.view(z.shape[0], *z.shape[2:], self.depth)


def _add(vectors: Iterator[Tensor]) -> Tensor:
    """In their order, so that decoding rounds as quantizing did."""
    total = next(vectors)
    for vector in vectors:
        total = total + vector
    return total

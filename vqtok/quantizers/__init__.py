"""From vectors to codes and back: one file a quantizer.

A quantizer's `forward` is pure. It returns what one pass contributes to the codebook (`CodeSums`),
and `step`, called once per optimizer step with the sums over all micro-batches and ranks, is the
only place where a codebook outside the optimizer changes. So gradient checkpointing, a second
pass or a validation loop moves nothing, and no collective hides in a forward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import CodesError, ConfigError, InputError
from vqtok.estimators import ESTIMATORS, Loss
from vqtok.registry import Registry
from vqtok.search import float64
from vqtok.types import CodeSums, Quantized

__all__ = ["QUANTIZERS", "TRAINING_STATE", "Quantizer", "RowQuantizer", "to_grid", "to_rows"]

# Buffers of quantizers that serve training alone, by the last part of their names.
TRAINING_STATE = frozenset({"count", "steps", "temperature", "total"})

QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer", __name__)


def to_rows(z: Tensor) -> Tensor:
    """(B, D, *grid) -> (N, D), N the number of tokens."""
    return z.movedim(1, -1).flatten(0, -2)


def to_grid(rows: Tensor, like: Tensor) -> Tensor:
    """(N, D) -> (B, D, *grid), with the batch and grid of `like`."""
    shape = like.shape[0], *like.shape[2:], rows.shape[-1]
    return rows.reshape(shape).movedim(-1, 1).contiguous()


class Quantizer(nn.Module, ABC):
    """What all quantizers share. A subclass registers itself and writes the abstract methods.

    dim            D, the width of the vectors
    codebook_size  K, the number of codes
    depth          Q, the number of codes a token has; 0 where codes have no such axis
    """

    # The settings that change which ids come out, and the value each has when nobody names it.
    # These alone enter the codebook's fingerprint.
    identity: ClassVar[dict[str, Any]] = {}
    # Rotation, except where it was measured to harm.
    default_estimator: ClassVar[str] = "rotation"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        depth: int = 0,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        commitment_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if dim < 1 or codebook_size < 2:
            raise ConfigError(
                f"a quantizer has at least one dimension and two codes; got dim={dim} and "
                f"codebook_size={codebook_size}"
            )
        self.dim = dim
        self.codebook_size = codebook_size
        self.depth = depth
        self.estimator = ESTIMATORS[estimator or self.default_estimator]
        self.estimator_args = dict(estimator_args or {})
        self.estimator.check(self.estimator_args)
        self.commitment_weight = commitment_weight

    @abstractmethod
    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """(B, D, *grid) -> what the decoder sees, the codes, the losses and the sums.

        `loss`, for estimators that need it, maps latents like z to the scalar propagated back;
        `generator` serves those that draw.
        """

    @abstractmethod
    def encode(self, z: Tensor) -> Tensor:
        """(B, D, *grid) -> codes (B, *grid) or (B, *grid, Q), int64."""

    @abstractmethod
    def decode(self, codes: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """Codes (B, *grid) or (B, *grid, Q) -> vectors (B, D, *grid), float32.

        Codes of several scales are (B, L), and `grid` says what they cover where L does not.
        """

    @abstractmethod
    def margin(self, z: Tensor) -> Tensor:
        """(B, D, *grid) -> (B, *grid): how far a vector must move to change one of its ids."""

    @abstractmethod
    def excess(self, z: Tensor, codes: Tensor) -> Tensor:
        """(B, D, *grid), codes of these latents -> float64 like the codes: how far off each id is.

        By what share a vector is farther from its id's code than from the nearest one, where this
        quantizer compares them: 0 for the ids of `encode`, which other arithmetic differs from by
        near ties alone. Where an id depends on those before it, of a token or of coarser scales,
        they are taken to be those in `codes`, so that each is judged by itself.
        """

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes one by one, (N,) or (N, Q) -> the vectors that they stand for, (N, D) float32."""
        return self.decode(codes[None])[0].T.contiguous()

    def codes_shape(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The shape of the codes of one grid of latents: (*grid) or (*grid, Q).

        (L,) where codes of several scales follow each other.
        """
        return (*grid, self.depth) if self.depth else tuple(grid)

    def scales_of(self, grid: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Height and width of each scale of a grid, coarse to fine; () where there is but one."""
        return ()

    def step(self, sums: CodeSums, generator: torch.Generator | None = None) -> None:
        """Moves the codebook by the sums of one optimizer step. Ranks pass equal generators."""
        return

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """The scalar that the losses of one forward add up to, by this quantizer's weights."""
        return losses["commit"] * self.commitment_weight

    def carry(
        self, e: Tensor, q: Tensor, like: Tensor, loss: Loss | None, generator: Any
    ) -> Tensor:
        """Rows e, q (N, D) -> z (B, D, *grid), with the estimator's gradient where one is taken.

        In eval z is always q. The gradient crosses there, too, for those who guide a sampler
        through the decoder, unless the estimator would need the loss or another value.
        """
        exact = self.estimator.value == "q" and not self.estimator.needs_loss
        if not torch.is_grad_enabled() or not (self.training or exact):
            return to_grid(q, like).to(like.dtype)
        arguments = dict(self.estimator_args)
        if loss is not None:
            arguments["loss"] = lambda rows: loss(to_grid(rows, like).to(like.dtype))
        z = self.estimator(e, q, generator=generator, **arguments)
        return to_grid(z, like).to(like.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.half()` and `.to(dtype)` pass by: ids would change with the dtype of the codes."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            halved = moved.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(moved.device) if halved else moved

        super()._apply(keep, recurse)  # type: ignore[no-untyped-call]
        return self

    def check_latents(self, z: Tensor) -> None:
        """Raises where z is not (B, D, *grid)."""
        if z.ndim < 3 or z.shape[1] != self.dim:
            raise InputError(
                f"latents for this quantizer have the shape (B, {self.dim}, *grid); "
                f"got {tuple(z.shape)}"
            )

    def check_codes(self, codes: Tensor) -> None:
        """Raises where codes are not whole numbers in [0, K), or the last axis is not Q long."""
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise CodesError(f"codes are whole numbers; got a tensor of {codes.dtype}")
        axis = f", {self.depth}" if self.depth else ""
        if codes.ndim < (3 if self.depth else 2) or (self.depth and codes.shape[-1] != self.depth):
            raise CodesError(
                f"codes of this tokenizer have the shape (B, *grid{axis}); got {tuple(codes.shape)}"
            )
        if torch.compiler.is_compiling() or not codes.numel():
            return
        # Widened, since torch has next to no operations on uint16.
        low, high = (int(bound) for bound in codes.long().aminmax())
        if low < 0 or high >= self.codebook_size:
            raise CodesError(
                f"codes of this tokenizer lie in [0, {self.codebook_size}); "
                f"got some from {low} to {high}"
            )


class RowQuantizer(Quantizer):
    """A quantizer with one code a token, found for each vector by itself.

    A subclass writes what happens to rows, vectors (N, D) in float32 and ids (N,).
    """

    @abstractmethod
    def find(self, rows: Tensor) -> Tensor:
        """(N, D) -> ids (N,)."""

    @abstractmethod
    def look_up(self, ids: Tensor) -> Tensor:
        """Ids (...) -> vectors (..., D)."""

    @abstractmethod
    def clearance(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N,): how far a vector must move to change its id."""

    def compared(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, D): the vectors as they are compared with codes, differentiably."""
        return rows

    def distance(self, rows: Tensor, ids: Tensor) -> Tensor:
        """(N, D), ids as `find` gives them -> float64 like the ids: a row from its id's code.

        What `find` makes least; by default between the compared row and the code's own vector.
        """
        apart: Tensor = (float64(self.compared(rows)) - float64(self.look_up(ids))).norm(dim=1)
        return apart

    def farther(self, rows: Tensor, ids: Tensor) -> Tensor:
        """(N, D), ids -> float64 like the ids: `Quantizer.excess`, of rows."""
        least = self.distance(rows, self.find(rows))
        # Without its sign: a code that is nearer, and yet may not be chosen, is off as well.
        apart = (self.distance(rows, ids) - least).abs()
        return torch.where(apart == 0, 0, apart / least)

    def losses(self, e: Tensor, q: Tensor) -> dict[str, Tensor]:
        """Compared rows and their codes (N, D) -> the unweighted losses."""
        return {"commit": F.mse_loss(e, q.detach())}

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            rows = to_rows(z).float()
            ids = self.find(rows)
            e, q = self.compared(rows), self.look_up(ids)
            out = self.carry(e, q, z, loss, generator)
            losses = self.losses(e, q)
        return Quantized(out, ids.view(z.shape[0], *z.shape[2:]), losses, None)

    def encode(self, z: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        return self._each(self.find, z)

    def decode(self, codes: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """See `Quantizer.decode`."""
        self.check_codes(codes)
        return self.look_up(codes.long()).movedim(-1, 1).contiguous()

    def margin(self, z: Tensor) -> Tensor:
        """See `Quantizer.margin`."""
        return self._each(self.clearance, z)

    @torch.no_grad()
    def excess(self, z: Tensor, codes: Tensor) -> Tensor:
        """See `Quantizer.excess`."""
        self.check_latents(z)
        self.check_codes(codes)
        with torch.autocast(z.device.type, enabled=False):
            ids = codes.long().flatten(0, z.ndim - 2)
            return self.farther(to_rows(z).float(), ids).view(codes.shape)

    def _each(self, what: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            return what(to_rows(z).float()).view(z.shape[0], *z.shape[2:])

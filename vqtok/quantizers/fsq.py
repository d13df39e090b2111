"""Finite scalar quantization (arXiv 2309.15505): each dimension is bounded and rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.quantizers import QUANTIZERS, RowQuantizer
from vqtok.search import float64

__all__ = ["FiniteScalarQuantizer"]

# By how much the bounds lie beyond the outermost values, so that tanh need not saturate there.
SLACK = 1e-3


@QUANTIZERS.register("fsq")
class FiniteScalarQuantizer(RowQuantizer):
    """Dimension d takes one of `levels[d]` values in [-1, 1]; K is their product.

    A code counts the values up, the first dimension fastest. There is no codebook to learn and
    nothing to collapse. The gradient goes through the rounding by the estimator (straight through
    by default), which acts on (bounded, rounded), and then through the bounding.
    """

    identity: ClassVar[dict[str, Any]] = {"levels": (8, 5, 5, 5)}
    default_estimator: ClassVar[str] = "ste"

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        levels: Sequence[int] = (8, 5, 5, 5),
        commitment_weight: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(dim, codebook_size, commitment_weight=commitment_weight, **shared)
        self.levels = tuple(levels)
        if not all(isinstance(count, int) and count > 2 for count in self.levels):
            raise ConfigError(
                "levels are whole numbers of at least 3 (for two values a dimension there is the "
                f"quantizer 'lfq'); got levels={self.levels}"
            )
        if (math.prod(self.levels), len(self.levels)) != (codebook_size, dim):
            raise ConfigError(
                f"levels={self.levels} make codebook_size={math.prod(self.levels)} and "
                f"dim={len(self.levels)}; got codebook_size={codebook_size} and dim={dim}"
            )
        self.basis = [math.prod(self.levels[:d]) for d in range(dim)]
        self.faces = [_faces(count) for count in self.levels]

    def compared(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.compared`: bounded to (-1, 1) or, for even levels, a step less."""
        half, offset, shift = self._constants(rows, *zip(*map(_bounds, self.levels), strict=True))
        return (torch.tanh(rows + shift) * half - offset) / self._half_widths(rows)

    def distance(self, rows: Tensor, ids: Tensor) -> Tensor:
        """See `RowQuantizer.distance`; tanh in float64, or its last bits would count."""
        return super().distance(float64(rows), ids)

    def find(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.find`.

        Vectors are compared with where the roundings lie before the bounding: tanh differs between
        devices in its last bits, and a comparison does not.
        """
        (basis,) = self._constants(rows, self.basis, dtype=torch.int64)
        digits = (rows[:, :, None] > self._faces(rows)).sum(2)
        return (digits * basis).sum(1)

    def look_up(self, ids: Tensor) -> Tensor:
        """See `RowQuantizer.look_up`."""
        basis, levels = self._constants(ids, self.basis, self.levels, dtype=torch.int64)
        half = self._half_widths(ids)
        return (ids[..., None] // basis % levels - half) / half

    def clearance(self, rows: Tensor) -> Tensor:
        """See `RowQuantizer.clearance`."""
        return (rows[:, :, None] - self._faces(rows)).abs().amin((1, 2))

    def _faces(self, like: Tensor) -> Tensor:
        """(D, L): where rounding changes its mind in each dimension, filled up with infinity."""
        widest = max(self.levels) - 1
        filled = [face + [math.inf] * (widest - len(face)) for face in self.faces]
        return torch.tensor(filled, device=like.device)

    def _half_widths(self, like: Tensor) -> Tensor:
        return self._constants(like, [count // 2 for count in self.levels])[0]

    # Made anew at each call: buffers that are not saved would not survive loading through torch's
    # meta device, and saved ones would be weights.
    @staticmethod
    def _constants(
        like: Tensor, *rows: Sequence[float], dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        return [torch.tensor(row, dtype=dtype, device=like.device) for row in rows]


def _bounds(count: int) -> tuple[float, float, float]:
    """(half, offset, shift): tanh(z + shift) * half - offset rounds to `count` whole numbers."""
    half = (count - 1) * (1 + SLACK) / 2
    offset = 0.0 if count % 2 else 0.5
    return half, offset, math.atanh(offset / half)


def _faces(count: int) -> list[float]:
    """The values of z at which the rounding of its bounded value steps up, ascending."""
    half, offset, shift = _bounds(count)
    steps = (step - count // 2 + 0.5 for step in range(count - 1))
    return [math.atanh((step + offset) / half) - shift for step in steps]

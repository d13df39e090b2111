"""Rotation without its scale: the gradient keeps its length (appendix A.9)."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators import estimator
from vqtok.estimators._transport import cosine_limit, transport
from vqtok.estimators.rotation import rotate_back

__all__ = ["rotation_no_scale"]

_carry = transport(rotate_back)


@estimator("rotation_no_scale", rotates=True)
def rotation_no_scale(
    e: Tensor,
    q: Tensor,
    *,
    generator: torch.Generator | None = None,
    max_angle: float = 90.0,
    strict: bool = False,
) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `Rᵀ g` for e.

    `max_angle` and `strict` as in `rotation`.
    """
    return _carry(e, q, cosine_limit(max_angle, strict))

"""The scale of the rotation trick without its rotation; a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators import estimator
from vqtok.estimators._transport import cosine_limit, transport

__all__ = ["scale_only"]

_carry = transport(lambda frame, g: frame.scale * g)


@estimator("scale_only")
def scale_only(
    e: Tensor,
    q: Tensor,
    *,
    generator: torch.Generator | None = None,
    max_angle: float = 90.0,
    strict: bool = False,
) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `λ g` for e.

    `max_angle` and `strict` as in `rotation`.
    """
    return _carry(e, q, cosine_limit(max_angle, strict))

"""The same rotation by Rodrigues' formula: R = I + K + K²/(1+c), K = v uᵀ - u vᵀ.

Equal to `rotation` up to rounding; here so that nobody has to take that on trust.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators import estimator
from vqtok.estimators._transport import Frame, cosine_limit, dot, transport

__all__ = ["rodrigues"]


def _turn_back(frame: Frame, g: Tensor) -> Tensor:
    def skew(x: Tensor) -> Tensor:
        return frame.u * dot(frame.v, x) - frame.v * dot(frame.u, x)  # Kᵀ x

    once = skew(g)
    return frame.scale * (g + once + skew(once) / frame.nearness)


_carry = transport(_turn_back)


@estimator("rodrigues", rotates=True)
def rodrigues(
    e: Tensor,
    q: Tensor,
    *,
    generator: torch.Generator | None = None,
    max_angle: float = 90.0,
    strict: bool = False,
) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `λ Rᵀ g` for e.

    `max_angle` and `strict` as in `rotation`.
    """
    return _carry(e, q, cosine_limit(max_angle, strict))

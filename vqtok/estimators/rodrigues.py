"""The same rotation by Rodrigues' formula: R = I + K + K²/(1+c), K = v uᵀ - u vᵀ.

Equal to `rotation` up to rounding; here so that nobody has to take that on trust.
"""

from __future__ import annotations

from torch import Tensor

from vqtok.estimators._transport import Frame, carried, dot

__all__ = ["rodrigues"]


@carried("rodrigues", rotates=True)
def rodrigues(frame: Frame, g: Tensor) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `λ Rᵀ g` for e."""

    def skew(x: Tensor) -> Tensor:
        return frame.u * dot(frame.v, x) - frame.v * dot(frame.u, x)  # Kᵀ x

    once = skew(g)
    return frame.scale * (g + once + skew(once) / frame.nearness)

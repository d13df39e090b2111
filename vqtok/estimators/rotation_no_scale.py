"""Rotation without its scale: the gradient keeps its length (appendix A.9)."""

from __future__ import annotations

from torch import Tensor

from vqtok.estimators._transport import Frame, carried
from vqtok.estimators.rotation import rotate_back

__all__ = ["rotation_no_scale"]


@carried("rotation_no_scale", rotates=True)
def rotation_no_scale(frame: Frame, g: Tensor) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `Rᵀ g` for e."""
    return rotate_back(frame, g)

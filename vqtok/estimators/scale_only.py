"""The scale of the rotation trick without its rotation; a baseline."""

from __future__ import annotations

from torch import Tensor

from vqtok.estimators._transport import Frame, carried

__all__ = ["scale_only"]


@carried("scale_only")
def scale_only(frame: Frame, g: Tensor) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `λ g` for e."""
    return frame.scale * g

"""A reflection of e's direction onto q's instead of a rotation (appendix A.8); a baseline.

It keeps angles and lengths as the rotation does, but has determinant -1: as q approaches e it does
not approach the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators._transport import Frame, carried, dot

__all__ = ["reflection"]


@carried("reflection")
def reflection(frame: Frame, g: Tensor) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `λ H g` for e, H = I - 2 w wᵀ."""
    w = frame.u - frame.v
    length = dot(w, w)
    # Parallel vectors have no mirror between them: nothing is turned there.
    turned = torch.where(length > 0, 2 * w * dot(w, g) / length, 0)
    return frame.scale * (g - turned)

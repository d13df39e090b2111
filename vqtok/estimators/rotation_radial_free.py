"""What the authors' VQGAN and ViT-VQGAN code does.

It rotates the normalised vector without detaching the normalisation, and automatic differentiation
then removes the part of the gradient along e: `(I - u uᵀ) λ Rᵀ g`. The numbers of Tables 2 to 4
were made with it; Algorithm 1, which the text and Table 1 have, is `rotation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators import estimator
from vqtok.estimators._transport import Frame, cosine_limit, dot, transport
from vqtok.estimators.rotation import rotate_back

__all__ = ["rotation_radial_free"]


def _without_radial_part(frame: Frame, g: Tensor) -> Tensor:
    back = frame.scale * rotate_back(frame, g)
    return back - frame.u * dot(frame.u, back)


_carry = transport(_without_radial_part)


@estimator("rotation_radial_free", rotates=True)
def rotation_radial_free(
    e: Tensor,
    q: Tensor,
    *,
    generator: torch.Generator | None = None,
    max_angle: float = 90.0,
    strict: bool = False,
) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `(I - u uᵀ) λ Rᵀ g` for e.

    `max_angle` and `strict` as in `rotation`.
    """
    return _carry(e, q, cosine_limit(max_angle, strict))

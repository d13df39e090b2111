"""What the authors' VQGAN and ViT-VQGAN code does.

It rotates the normalised vector without detaching the normalisation, and automatic differentiation
then removes the part of the gradient along e: `(I - u uᵀ) λ Rᵀ g`. The numbers of Tables 2 to 4
were made with it; Algorithm 1, which the text and Table 1 have, is `rotation`.
"""

from __future__ import annotations

from torch import Tensor

from vqtok.estimators._transport import Frame, carried, dot
from vqtok.estimators.rotation import rotate_back

__all__ = ["rotation_radial_free"]


@carried("rotation_radial_free", rotates=True)
def rotation_radial_free(frame: Frame, g: Tensor) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `(I - u uᵀ) λ Rᵀ g` for e."""
    back = frame.scale * rotate_back(frame, g)
    return back - frame.u * dot(frame.u, back)

"""The weight that makes two losses pull equally at one layer, as taming-transformers has it."""

from __future__ import annotations

from torch import Tensor

__all__ = ["adaptive_weight"]

MOST = 1e4
LEAST_NORM = 1e-4


def adaptive_weight(reconstruction: Tensor, generator: Tensor) -> Tensor:
    """Gradients of both losses at the same weights -> by what to multiply the generator's.

    Over several processes these are the gradients' means: norms of a mean are not means of norms.
    """
    ratio: Tensor = reconstruction.norm() / (generator.norm() + LEAST_NORM)
    return ratio.clamp(0, MOST).detach()

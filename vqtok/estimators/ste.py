"""The straight-through estimator: the gradient at q, unchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators import estimator
from vqtok.estimators._replace import shifted

__all__ = ["ste"]


@estimator("ste")
def ste(e: Tensor, q: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient g for e."""
    return shifted(e, q, None)

"""The gradient of the loss at e itself, from a second pass through the decoder; a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.estimators import Loss, estimator
from vqtok.estimators._replace import replaced

__all__ = ["exact"]


@estimator("exact", needs_loss=True)
def exact(e: Tensor, q: Tensor, *, loss: Loss, generator: torch.Generator | None = None) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `∇loss(e)` for e.

    `loss` maps vectors (..., D) to the scalar that is propagated back, already scaled as that is.
    """
    point = e.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(loss(point), point)
    return replaced(e, q, slope)

"""The gradient at q, carried to e by the Hessian: `g + H (e - q)`; a baseline."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vqtok.estimators import Loss, estimator
from vqtok.estimators._replace import shifted

__all__ = ["hessian"]


@estimator("hessian", needs_loss=True)
def hessian(
    e: Tensor, q: Tensor, *, loss: Loss, generator: torch.Generator | None = None
) -> Tensor:
    """(..., D), (..., D) -> q (..., D), with the gradient `g + H(q) (e - q)` for e.

    `loss` maps vectors (..., D) to the scalar that is propagated back, already scaled as that is.
    """
    point = q.detach().requires_grad_()
    # The fused kernels of attention have no second derivative.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        (slope,) = torch.autograd.grad(loss(point), point, create_graph=True)
        if not slope.requires_grad:  # a linear loss
            return shifted(e, q, None)
        (bend,) = torch.autograd.grad(slope, point, (e - q).detach(), materialize_grads=True)
    return shifted(e, q, bend)

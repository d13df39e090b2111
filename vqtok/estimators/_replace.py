"""A value q whose gradient is passed on with something added, or replaced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["replaced", "shifted"]


class _Shifted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, e: Tensor, q: Tensor, extra: Tensor | None) -> Tensor:
        ctx.dtype = e.dtype
        ctx.save_for_backward(*(() if extra is None else (extra,)))
        return q.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        for extra in ctx.saved_tensors:
            grad = grad + extra
        return grad.to(ctx.dtype), None, None


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, e: Tensor, q: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient.to(e.dtype))
        return q.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0], None, None


def shifted(e: Tensor, q: Tensor, extra: Tensor | None) -> Tensor:
    """q, with the gradient g + extra for e."""
    z: Tensor = _Shifted.apply(e, q.detach(), extra)  # type: ignore[no-untyped-call]
    return z


def replaced(e: Tensor, q: Tensor, gradient: Tensor) -> Tensor:
    """q, with `gradient` for e whatever comes back."""
    z: Tensor = _Replaced.apply(e, q.detach(), gradient)  # type: ignore[no-untyped-call]
    return z

"""The gradient penalty on pictures (arXiv 1801.04406)."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.training.losses import widened

__all__ = ["r1_penalty"]


def r1_penalty(real: Tensor, x: Tensor) -> Tensor:
    """Logits (N, ...) of the pixels x, made of them -> the mean of |gradient|² over N.

    N counts what is judged: pictures, clips, or the frames of clips where a network takes them one
    by one. Of a picture with several logits the gradient is that of their sum. The weight, and the
    half that goes with it, are the caller's. Differentiable.
    """
    (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
    return widened(slope).square().sum() / len(real)

"""The mean squared error."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vqtok.training.losses import PIXEL_LOSSES, widened

__all__ = ["l2"]


@PIXEL_LOSSES.register("l2")
def l2(rec: Tensor, x: Tensor) -> Tensor:
    """(B, C, *size), (B, C, *size) -> scalar."""
    return F.mse_loss(widened(rec), widened(x))

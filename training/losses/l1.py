"""The mean absolute error."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vqtok.training.losses import PIXEL_LOSSES, widened

__all__ = ["l1"]


@PIXEL_LOSSES.register("l1")
def l1(rec: Tensor, x: Tensor) -> Tensor:
    """(B, C, *size), (B, C, *size) -> scalar."""
    return F.l1_loss(widened(rec), widened(x))

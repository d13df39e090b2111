"""What a reconstruction and a discriminator are scored by: one file a loss.

Every loss is a mean over its batch, so that the mean over processes or micro-batches of equal size
is the value of the joint batch; entropy, which is none, sees to that itself. All of them compute in
float32 or wider, whatever they are given and whether or not autocast is on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vqtok.registry import Registry

__all__ = ["GAN_LOSSES", "PIXEL_LOSSES", "GanLoss", "widened"]


class GanLoss(NamedTuple):
    """Both sides of an adversarial loss, on logits that are high for real pictures."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (real logits, fake logits) -> scalar
    generator: Callable[[Tensor], Tensor]  # fake logits -> scalar


# (reconstructions, pictures), (B, C, *size) each in [-1, 1] -> scalar
PIXEL_LOSSES: Registry[Callable[[Tensor, Tensor], Tensor]] = Registry("pixel loss", __name__)
GAN_LOSSES: Registry[GanLoss] = Registry("GAN loss", __name__)


def widened(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

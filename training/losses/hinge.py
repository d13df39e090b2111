"""The hinge loss of taming-transformers: halves for the discriminator, the mean for the other."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vqtok.training.losses import GAN_LOSSES, GanLoss, widened

__all__ = ["HINGE"]


def _discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (F.relu(1 - widened(real)).mean() + F.relu(1 + widened(fake)).mean())


def _generator(fake: Tensor) -> Tensor:
    return -widened(fake).mean()


HINGE = GAN_LOSSES.register("hinge")(GanLoss(_discriminator, _generator))

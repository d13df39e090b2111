"""Cross-entropy for the discriminator, as in taming-transformers; the mean for the other."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vqtok.training.losses import GAN_LOSSES, GanLoss, widened

__all__ = ["VANILLA"]


def _discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (F.softplus(-widened(real)).mean() + F.softplus(widened(fake)).mean())


def _generator(fake: Tensor) -> Tensor:
    return -widened(fake).mean()


VANILLA = GAN_LOSSES.register("vanilla")(GanLoss(_discriminator, _generator))

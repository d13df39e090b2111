"""Cross-entropy on both sides, the generator's with labels turned round, as in StyleGAN2.

Each patch is judged by itself; code in the line of MAGVIT-v2 takes a picture's mean logit first.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vqtok.training.losses import GAN_LOSSES, GanLoss, widened

__all__ = ["NON_SATURATING"]


def _discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-widened(real)).mean() + F.softplus(widened(fake)).mean()


def _generator(fake: Tensor) -> Tensor:
    return F.softplus(-widened(fake)).mean()


NON_SATURATING = GAN_LOSSES.register("non_saturating")(GanLoss(_discriminator, _generator))

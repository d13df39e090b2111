"""The distance of a discriminator's features (arXiv 1711.11585)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vqtok.training.losses import widened

__all__ = ["feature_matching"]


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Features of pictures and reconstructions, a tensor a layer -> the mean absolute difference.

    Each layer counts alike. No gradient goes to `real`.
    """
    pairs = zip(real, fake, strict=True)
    each = [F.l1_loss(widened(b), widened(a.detach())) for a, b in pairs]
    return torch.stack(each).mean()

"""LeCAM (arXiv 2104.03310): holds a discriminator near its own running means.

As its authors' code has it: only what lies beyond the other side's mean is penalised, where the
paper prints the squared distance in either direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.training.losses import widened

__all__ = ["LeCAM"]


class LeCAM(nn.Module):
    """Running means of the logits of pictures and reconstructions, and the penalty beside them.

    They are buffers, so that a checkpoint has them, and move in `update` alone, which is given
    means over all processes: each with its own would train another discriminator.
    """

    real: Tensor
    fake: Tensor
    started: Tensor

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logits of any shape -> scalar; 0 until there are means."""
        over = F.relu(widened(real) - self.fake).square().mean()
        under = F.relu(self.real - widened(fake)).square().mean()
        return torch.where(self.started, over + under, 0)

    @torch.no_grad()
    def update(self, real: Tensor, fake: Tensor) -> None:
        """Means of the logits of one optimizer step, over all processes, scalars."""
        for mean, now in ((self.real, real), (self.fake, fake)):
            mean.copy_(torch.where(self.started, mean.lerp(now, 1 - self.decay), now))
        self.started.fill_(True)

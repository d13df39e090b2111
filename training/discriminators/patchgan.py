"""PatchGAN (arXiv 1611.07004), with the layers of taming-transformers."""

from __future__ import annotations

from torch import Tensor, nn

from vqtok.training.discriminators import DISCRIMINATORS, as_frames
from vqtok.training.discriminators.layers import Patches

__all__ = ["PatchGAN"]


@DISCRIMINATORS.register("patchgan")
class PatchGAN(Patches):
    """A logit for each patch: of 70 pixels a side with 3 `layers`, 34 with 2.

    channels  of the first layer; doubled by each of the next, up to eight times
    layers    how many halve the picture
    norm      "group", or "batch" as published discriminators have it: see `Patches`
    """

    name, conv, kernel = "patchgan", nn.Conv2d, (4, 4)
    batch_norm = nn.BatchNorm2d

    def forward(
        self, x: Tensor, features: bool = False, parts: int = 1
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) -> logits (B, 1, h, w); see the package for the rest, and for clips."""
        logits, made = self.judged(as_frames(x, self.name), parts)
        return (logits, made) if features else logits

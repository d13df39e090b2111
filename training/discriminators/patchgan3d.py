"""PatchGAN over time and space, for clips."""

from __future__ import annotations

from torch import Tensor, nn

from vqtok.errors import ImageError
from vqtok.training.discriminators import DISCRIMINATORS
from vqtok.training.discriminators.layers import Patches

__all__ = ["PatchGAN3d"]


@DISCRIMINATORS.register("patchgan3d")
class PatchGAN3d(Patches):
    """A logit for each patch of a few frames. Time is halved as space is, while frames last.

    channels  of the first layer; doubled by each of the next, up to eight times
    layers    how many halve the clip
    norm      "group" or "batch": see `Patches`
    """

    # Three frames wide, so that a clip of any length goes through all layers.
    name, conv, kernel = "patchgan3d", nn.Conv3d, (3, 4, 4)
    batch_norm = nn.BatchNorm3d

    def forward(
        self, x: Tensor, features: bool = False, parts: int = 1
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """(B, C, T, H, W) -> logits (B, 1, t, h, w); see the package for the rest."""
        if x.ndim != 5:
            raise ImageError(
                f"the discriminator {self.name} takes clips (B, C, T, H, W); got "
                f"{tuple(x.shape)}; for pictures there is patchgan"
            )
        logits, made = self.judged(x, parts)
        return (logits, made) if features else logits

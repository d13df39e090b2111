"""What a Lightning checkpoint holds beside the model: running means, and networks of the loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vqtok.checkpoints import patchgan
from vqtok.checkpoints.wrappers import EMA, EMA_COUNTERS

__all__ = ["AVERAGED", "sorted_extras", "under"]

AVERAGED = "Weights are the running means (model_ema), with which the source evaluates."
DISCRIMINATOR = "loss.discriminator."
_REASONS = {
    "loss.perceptual_loss.": "LPIPS' network, which training brings itself",
    DISCRIMINATOR: "a discriminator of a kind that training has not",
    "loss.": "a part of the loss",
    **{EMA + name: "a number that running means are taken with" for name in EMA_COUNTERS},
    f"{EMA}loss": "a running mean of a part of the loss",
    EMA: "a running mean, taken in place of the weight itself",
    "colorize": "colours for showing segmentation maps",
}
_OTHER = "no part of the autoencoder"


def sorted_extras(
    extras: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What is no part of the autoencoder: the discriminator, and why the rest is dropped.

    Training goes on from the discriminator's own weights, not from their running means.
    """
    discriminator = patchgan.weights(under(DISCRIMINATOR, extras))
    kept = DISCRIMINATOR if discriminator else "\0"
    dropped = {
        key: next((why for start, why in _REASONS.items() if key.startswith(start)), _OTHER)
        for key in extras
        if not key.startswith(kept)
    }
    return discriminator, dropped


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose keys begin with `prefix`, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

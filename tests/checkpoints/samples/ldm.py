"""A first stage of latent diffusion without attention, at the size of its golden tensors."""

from __future__ import annotations

from typing import Any

from checkpoints.samples.taming import golden, networks, yaml
from torch import Tensor


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    settings = yaml("ldm.models.autoencoder.VQModel", 3)
    settings["model"]["params"]["ddconfig"] |= {"attn_type": "none", "attn_resolutions": []}
    return networks("ldm") | {"quantize.embedding.weight": golden("ldm")["table"]}, settings

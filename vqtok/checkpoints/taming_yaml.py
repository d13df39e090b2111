"""The settings under which taming-transformers loads a model of ours."""

from __future__ import annotations

import math
from typing import Any

from vqtok.autoencoders import AutoencoderBase

__all__ = ["taming_settings"]

# What latent diffusion's VQModelInterface and taming's own share; each is a class of taming.
TARGETS = {"vector": "taming.models.vqgan.VQModel", "gumbel": "taming.models.vqgan.GumbelVQ"}


def taming_settings(model: AutoencoderBase) -> dict[str, Any]:
    """`model.target` and `model.params` of the YAML, for a model that `to_taming` takes."""
    config = model.config
    widths = list(config.block_out_channels)
    channels = math.gcd(*widths)
    attending = [
        config.sample_size // 2**level
        for level, kind in enumerate(config.down_block_types)
        if kind.startswith("Attn")
    ]
    ddconfig = {
        "double_z": False,
        "z_channels": config.latent_channels,
        "resolution": config.sample_size,
        "in_channels": config.in_channels,
        "out_ch": config.out_channels,
        "ch": channels,
        "ch_mult": [width // channels for width in widths],
        "num_res_blocks": config.layers_per_block,
        "attn_resolutions": attending,
        "dropout": 0.0,
    }
    if not config.mid_block_add_attention:  # which latent diffusion's networks know alone
        ddconfig["attn_type"] = "none"
    params = {
        "embed_dim": config.vq_embed_dim or config.latent_channels,
        "n_embed": config.num_vq_embeddings,
        "ddconfig": ddconfig,
        "lossconfig": {"target": "taming.modules.losses.vqperceptual.DummyLoss"},
    }
    return {"model": {"target": TARGETS[config.quantizer], "params": params}}

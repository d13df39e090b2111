"""transformers' Emu3VQVAE, small."""

from __future__ import annotations

from typing import Any

import torch
from checkpoints.filled import codes_among, filled, pixels
from torch import Tensor

SIZES: dict[str, Any] = {
    "base_channels": 32,
    "channel_multiplier": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [1],
    "hidden_size": 64,
    "num_attention_heads": 1,
    "latent_channels": 4,
    "embed_dim": 4,
    "codebook_size": 48,
    "temporal_downsample_factor": 4,
}


def oracle() -> Any:
    """The model, with codes near the latents of `clips`."""
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    made = Emu3VQVAE(Emu3VQVAEConfig(**SIZES)).eval()
    shapes = {k: tuple(v.shape) for k, v in made.state_dict().items() if v.is_floating_point()}
    weights = filled(shapes)
    for key in weights:
        if key.endswith("running_var"):
            weights[key] = weights[key].abs() + 0.5
            # Small enough for the eps beside it to show.
            weights[key][::4] = 1e-4
    made.load_state_dict(weights, strict=False)
    with torch.no_grad():
        hidden = made.encoder(clips().transpose(1, 2))
        latents = made.quant_conv(hidden.transpose(1, 2))
    rows = latents.movedim(1, -1).flatten(0, -2)
    made.quantize.embedding.weight.data = codes_among(rows, SIZES["codebook_size"])
    return made


def clips() -> Tensor:
    """Two clips of 2 x 4 x 6 tokens."""
    return pixels(2, 3, 8, 8, 12)


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What lies under `model.vqmodel.`, and config.json."""
    return dict(oracle().state_dict()), {"model_type": "emu3", "vq_config": SIZES}

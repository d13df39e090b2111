"""transformers' JanusVQVAE, small."""

from __future__ import annotations

from typing import Any

import torch
from checkpoints.filled import codes_among, filled, pixels
from torch import Tensor

SIZES: dict[str, Any] = {
    "base_channels": 32,
    "channel_multiplier": [1, 1, 2],
    "num_res_blocks": 1,
    "latent_channels": 6,
    "embed_dim": 4,
    "num_embeddings": 48,
    "num_patches": 6,
}


def oracle() -> Any:
    """The model, with codes near the latents of `picture`."""
    from transformers import JanusVQVAE, JanusVQVAEConfig

    made = JanusVQVAE(JanusVQVAEConfig(**SIZES)).eval()
    made.load_state_dict(filled({k: tuple(v.shape) for k, v in made.state_dict().items()}))
    with torch.no_grad():
        latents = made.quant_conv(made.encoder(picture()))
    rows = latents.movedim(1, -1).flatten(0, -2)
    made.quantize.embedding.weight.data = codes_among(rows, SIZES["num_embeddings"])
    return made


def picture() -> Tensor:
    """Two pictures of 6 x 6 tokens."""
    return pixels(2, 3, 24, 24)


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What lies under `model.vqmodel.`, and config.json."""
    return dict(oracle().state_dict()), {"model_type": "janus", "vq_config": SIZES}

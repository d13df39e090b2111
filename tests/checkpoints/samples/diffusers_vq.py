"""diffusers' VQModel as MoVQ and amused configure it, narrower than these are."""

from __future__ import annotations

from typing import Any

from checkpoints.filled import filled
from diffusers import VQModel
from torch import Tensor

MOVQ: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    "layers_per_block": 2,
    "latent_channels": 4,
    "vq_embed_dim": 4,
    "num_vq_embeddings": 64,
    "norm_type": "spatial",
}
AMUSED: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 2,
    "latent_channels": 16,
    "vq_embed_dim": 8,
    "num_vq_embeddings": 64,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
    "force_upcast": True,
}
KINDS = {"movq": MOVQ, "amused": AMUSED}


def reference(kind: str = "movq") -> VQModel:
    """diffusers' model of the sample, in eval."""
    model = VQModel(**KINDS[kind]).eval()
    model.load_state_dict(filled({k: tuple(t.shape) for k, t in model.state_dict().items()}))
    return model


def sample(kind: str = "movq") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the config.json beside them."""
    model = reference(kind)
    return model.state_dict(), dict(model.config)

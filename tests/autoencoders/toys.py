"""Every architecture at the size that its tests run in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase, AutoencoderVQTiTok

TOYS: dict[str, dict[str, Any]] = {
    "bsq_vit": {
        "patch_size": 4,
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "mlp_dim": 24,
        "output_dim": 20,
        "sample_size": 32,
        "vq_embed_dim": 4,
        "quantizer": "vector",
    },
    "cnn": {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 16),
        "norm_num_groups": 4,
        "latent_channels": 4,
    },
    "cnn3d": {
        "block_out_channels": (8, 8, 16),
        "temporal_downsample": (False, True),
        "layers_per_block": (0, 1, 1),
        "latent_channels": 4,
        "sample_size": 16,
        "sample_frames": 5,
        "vq_embed_dim": 4,
    },
    "conv_residual": {"channels": 8, "residual_channels": 4, "latent_channels": 4},
    "emu3": {
        "block_out_channels": (32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "temporal_stride": 2,
        "latent_channels": 4,
        "sample_size": 16,
        "sample_frames": 4,
    },
    "magvit2": {
        "block_out_channels": (8, 8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "quantizer": "vector",
    },
    "maskgit": {
        "block_out_channels": (8, 8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
    },
    "titok": {
        "sample_size": 32,
        "num_latent_tokens": 64,
        "patch_size": 8,
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "decoder_patch_size": 4,
        "decoder_channels": 8,
        "two_stage": True,
        "proxy_codes": 24,
        "proxy_channels": 6,
        "block_out_channels": (8, 8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "vq_embed_dim": 4,
    },
    "vit": {
        "patch_size": 4,
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "dim_head": 8,
        "mlp_dim": 24,
        "decoder_channels": 8,
        "decoder_heads": 3,
        "sample_size": 32,
        "vq_embed_dim": 4,
    },
    "timesformer": {
        "latent_channels": 16,
        "depth": 2,
        "heads": 2,
        "mlp_dim": 24,
        "sample_size": 16,
        "sample_frames": 4,
        "vq_embed_dim": 4,
    },
}
PICTURES = [name for name in TOYS if name not in ("cnn3d", "emu3", "timesformer")]


def toy(name: str, seed: int = 0, **changes: Any) -> AutoencoderBase:
    """A model with 64 codes of 4 dimensions, of which random pixels really use several."""
    torch.manual_seed(seed)
    settings = {
        "num_vq_embeddings": 64,
        "quantizer_args": {"start": "kaiming"},
        **TOYS[name],
        **changes,
    }
    made = AUTOENCODERS[name](**settings).eval()
    # Codes where latents are, or all pixels would have one code.
    with torch.no_grad():
        latents = made.encode(signed(pixels(made, tokens=8, seed=9))).latents.movedim(1, -1)
    made.quantize.embedding.weight.data = latents.flatten(0, -2)[:64].contiguous()
    return made


def pixels(model: AutoencoderBase, tokens: int = 4, seed: int = 1) -> Tensor:
    """(2, 3, *size) uint8 noise: `tokens` along the first axis of a grid, one more along each.

    Of the size that the model takes, where that is but one.
    """
    size = [(tokens + axis) * step for axis, step in enumerate(model.stride)]
    if model.causal:
        size[0] -= model.stride[0] - 1  # the first frame is a token
    if isinstance(model, AutoencoderVQTiTok):
        size = [*model.probe_size()]
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)


def signed(pixels: Tensor) -> Tensor:
    """The same pixels, floats in [-1, 1]."""
    return (pixels.float() - 127.5) * (1 / 127.5)

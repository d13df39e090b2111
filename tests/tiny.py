"""The smallest model that has every part, for tests of what is built on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vqtok.autoencoders import AutoencoderVQ
from vqtok.preprocess import Preprocess
from vqtok.tokenizer import VisualTokenizer

STRIDE = 4


def model(seed: int = 0, **changes: Any) -> AutoencoderVQ:
    """Stride 4, 64 codes of 4 dimensions that random pictures really use."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 16),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "num_vq_embeddings": 64,
        "mid_block_add_attention": False,
        "quantizer_args": {"start": "kaiming"},
    }
    made = AutoencoderVQ(**{**settings, **changes}).eval()
    if hasattr(made.quantize, "embedding"):
        # Codes as far apart as the latents are, or all pictures would have one code.
        weight = made.quantize.embedding.weight
        weight.data = torch.randn(weight.shape) * 0.3
    return made


def tokenizer(seed: int = 0, **changes: Any) -> VisualTokenizer:
    """A tokenizer for 16 x 16 pictures around `model`."""
    settings = Preprocess(policy="center", size=16, stride=STRIDE)
    return VisualTokenizer.from_model(model(seed, **changes), settings)


def picture(height: int = 20, width: int = 24, seed: int = 0) -> np.ndarray:
    """Noise, (height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)

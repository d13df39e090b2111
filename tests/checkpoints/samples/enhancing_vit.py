"""ViT-VQGAN at the size of its golden tensors."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from checkpoints.filled import filled
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).resolve().parents[2] / "golden/enhancing_vit.safetensors"


def golden() -> dict[str, Tensor]:
    """What the reference made of these weights; see golden/enhancing_vit.md."""
    return load_file(FILE)


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    with safe_open(FILE, "pt") as file:
        shapes = ast.literal_eval(file.metadata()["shapes"])
    made = golden()
    tensors = filled(shapes) | {
        "quantizer.embedding.weight": made["table"],
        "encoder.en_pos_embedding": made["positions_encoder"],
        "decoder.de_pos_embedding": made["positions_decoder"],
        "loss.discriminator.final_linear.1.weight": made["table"],
        "loss.perceptual_loss.lin0.model.1.weight": made["table"],
    }
    sizes = {"encoder": {"dim": 24, "depth": 2, "heads": 3, "mlp_dim": 40}}
    sizes["decoder"] = {"dim": 16, "depth": 3, "heads": 2, "mlp_dim": 24}
    quantizer = {"embed_dim": 8, "n_embed": 64}
    target = "enhancing.modules.stage1.vitvqgan.ViTVQ"
    params = {"image_size": [24, 40], "patch_size": 4, **sizes, "quantizer": quantizer}
    return tensors, {"model": {"target": target, "params": params}}

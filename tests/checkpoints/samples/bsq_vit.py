"""BSQ-ViT at the size of its golden tensors."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch
from checkpoints.filled import filled
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
NAMES = ("bsq_vit", "bsq_vit_wide")


def golden(name: str = "bsq_vit") -> dict[str, Tensor]:
    """What the reference made of these weights; see golden/bsq_vit.md."""
    return load_file(GOLDEN / f"{name}.safetensors")


def sample(name: str = "bsq_vit") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = filled(ast.literal_eval(file.metadata()["shapes"]))
    bits, group = len(tensors["quant_embed.bias"]), 3 if name == "bsq_vit" else 1
    tensors["quantize.basis"] = 2 ** torch.arange(bits - 1, -1, -1)
    tensors["quantize.group_basis"] = 2 ** torch.arange(group - 1, -1, -1)
    vit = {"image_size": 16, "patch_size": 4, "width": 24, "layers": 2, "heads": 3, "mlp_ratio": 2}
    params = {
        "embed_dim": bits,
        "embed_group_size": group,
        "l2_norm": True,
        "post_q_l2_norm": True,
        "logit_laplace": False,
        "beta": 0.25,
        "inv_temperature": 3.0,
        "vitconfig": vit,
    }
    model = {"target": "transcoder.models.bsqvit.VITBSQModel", "params": params}
    loss = {"disc_type": "stylegan", "codebook_weight": 0.1, "codebook_rampup_steps": 2000}
    data = {"image_size": 16, "zero_mean": True}
    return tensors, {"model": model, "loss": {"params": loss}, "data": data}

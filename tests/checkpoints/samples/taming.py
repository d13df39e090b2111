"""A VQGAN at the size of its golden tensors, with the loss that a checkpoint of it holds."""

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
JUDGE = "loss.discriminator."


def golden(name: str = "taming") -> dict[str, Tensor]:
    """What the reference made of the weights of a sample; see golden/taming.md."""
    return load_file(GOLDEN / f"{name}.safetensors")


def networks(name: str) -> dict[str, Tensor]:
    """The weights by the rule that the golden tensors were made with."""
    return filled(_shapes(name))


def judge() -> dict[str, Tensor]:
    """The discriminator's, as its own state_dict has them."""
    shapes = {k.removeprefix(JUDGE): s for k, s in _shapes("taming", judge=True).items()}
    buffers = {k: s for k, s in shapes.items() if "running" in k or "tracked" in k}
    weights = filled({k: s for k, s in shapes.items() if k not in buffers}, seed=3)
    return weights | {key: torch.ones(shape) for key, shape in buffers.items()}


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    tensors = networks("taming") | {
        "quantize.embedding.weight": golden()["table"],
        "loss.perceptual_loss.lin0.model.1.weight": torch.ones(1, 64, 1, 1),
        **{JUDGE + key: tensor for key, tensor in judge().items()},
    }
    return tensors, yaml("taming.models.vqgan.VQModel", 32)


def yaml(target: str, dim: int, **changes: Any) -> dict[str, Any]:
    """Settings as CompVis writes them."""
    ddconfig = {
        "double_z": False,
        "z_channels": dim,
        "resolution": 16,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2],
        "num_res_blocks": 2,
        "attn_resolutions": [8],
        "dropout": 0.0,
    }
    params = {"embed_dim": dim, "n_embed": 64, "ddconfig": ddconfig, **changes}
    return {"model": {"base_learning_rate": 4.5e-6, "target": target, "params": params}}


def _shapes(name: str, judge: bool = False) -> dict[str, tuple[int, ...]]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        shapes = ast.literal_eval(file.metadata()["shapes"])
    return {key: shape for key, shape in shapes.items() if key.startswith(JUDGE) == judge}

"""IBQ at the size of its golden tensors."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from checkpoints.filled import filled
from checkpoints.samples.open_magvit2 import averaged, loss_tensors
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).resolve().parents[2] / "golden/ibq.safetensors"


def golden() -> dict[str, Tensor]:
    """What the reference made of these weights; see golden/seed_voken.md."""
    return load_file(FILE)


def weights() -> dict[str, Tensor]:
    """The model's own, those that the golden tensors were made with."""
    with safe_open(FILE, "pt") as file:
        shapes = ast.literal_eval(file.metadata()["shapes"])
    return filled(shapes) | {"quantize.embedding.weight": golden()["table"]}


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    ddconfig = {
        "double_z": False,
        "z_channels": 8,
        "resolution": 16,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1],
        "num_res_blocks": 4,
        "attn_resolutions": [8],
        "dropout": 0.0,
    }
    loss = {"disc_weight": 0.4, "quant_loss_weight": 1.0, "entropy_loss_weight": 0.05}
    init_args = {
        "ddconfig": ddconfig,
        "lossconfig": {"target": "VQLPIPSWithDiscriminator", "params": loss},
        "n_embed": 64,
        "embed_dim": 8,
        "use_entropy_loss": True,
        "entropy_temperature": 0.01,
        "beta": 0.25,
        "use_ema": True,
    }
    model = {"class_path": "src.IBQ.models.ibqgan.IBQ", "init_args": init_args}
    return {**averaged(weights()), **loss_tensors()}, {"model": model}

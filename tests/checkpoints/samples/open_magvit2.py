"""Open-MAGVIT2 at the size of its golden tensors."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch
from checkpoints.filled import filled
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).resolve().parents[2] / "golden/open_magvit2.safetensors"


def golden() -> dict[str, Tensor]:
    """What the reference made of these weights; see golden/seed_voken.md."""
    return load_file(FILE)


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As Lightning keeps them: weights that training left, and beside them these, their means."""
    left = {key: tensor + 0.5 for key, tensor in tensors.items()}
    means = {f"model_ema.{key.replace('.', '')}": tensor for key, tensor in tensors.items()}
    counters = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(-1)}
    return {**left, **means, **counters}


def loss_tensors() -> dict[str, Tensor]:
    """Of the loss networks: a PatchGAN's, and one of LPIPS."""
    shapes: dict[str, tuple[int, ...]] = {
        "loss.discriminator.main.0.weight": (8, 3, 4, 4),
        "loss.discriminator.main.0.bias": (8,),
        "loss.discriminator.main.2.weight": (16, 8, 4, 4),
        "loss.discriminator.main.3.weight": (16,),
        "loss.discriminator.main.3.bias": (16,),
        "loss.discriminator.main.5.weight": (1, 16, 4, 4),
        "loss.discriminator.main.5.bias": (1,),
    }
    return {
        **filled(shapes, seed=5),
        "loss.discriminator.main.3.running_mean": torch.zeros(16),
        "loss.discriminator.main.3.running_var": torch.ones(16),
        "loss.discriminator.main.3.num_batches_tracked": torch.tensor(3),
        "loss.perceptual_loss.lin0.model.1.weight": torch.ones(1, 64, 1, 1),
    }


def weights() -> dict[str, Tensor]:
    """The model's own, those that the golden tensors were made with."""
    with safe_open(FILE, "pt") as file:
        return filled(ast.literal_eval(file.metadata()["shapes"]))


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    ddconfig = {
        "double_z": False,
        "z_channels": 6,
        "resolution": 128,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 2,
    }
    loss = {"disc_weight": 0.8, "codebook_weight": 0.1, "commit_weight": 0.25}
    init_args = {
        "ddconfig": ddconfig,
        "lossconfig": {"target": "VQLPIPSWithDiscriminator", "params": loss},
        "n_embed": 64,
        "embed_dim": 6,
        "sample_minimization_weight": 1.0,
        "batch_maximization_weight": 1.0,
        "use_ema": True,
    }
    model = {"class_path": "src.Open_MAGVIT2.models.lfqgan.VQModel", "init_args": init_args}
    data = {"init_args": {"train": {"params": {"config": {"size": 256, "subset": None}}}}}
    judge = loss_tensors()
    return {**averaged(weights()), **judge}, {"model": model, "data": data}

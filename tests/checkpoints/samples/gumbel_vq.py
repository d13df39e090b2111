"""A GumbelVQ at the size of its golden tensors."""

from __future__ import annotations

from typing import Any

from checkpoints.filled import filled
from checkpoints.samples.taming import networks, yaml
from torch import Tensor


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors without a wrapper, and the YAML beside them."""
    quantizer = {
        "quantize.proj.weight": (64, 32, 1, 1),
        "quantize.proj.bias": (64,),
        "quantize.embed.weight": (64, 32),
    }
    params = {"lr_start": 0.9, "lr_max": 0.9, "lr_min": 1e-6}
    schedule = {"params": {"warm_up_steps": 0, "max_decay_steps": 1000001, **params}}
    settings = yaml("taming.models.vqgan.GumbelVQ", 32, temperature_scheduler_config=schedule)
    return networks("gumbel_vq") | filled(quantizer, seed=5), settings

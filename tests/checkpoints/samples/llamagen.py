"""LlamaGen's VQ model at the size of its golden tensors."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch
from checkpoints.filled import filled
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).resolve().parents[2] / "golden/llamagen.safetensors"


def golden() -> dict[str, Tensor]:
    """What the reference made of these weights; see golden/llamagen.md."""
    return load_file(FILE)


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a release, which has no settings."""
    with safe_open(FILE, "pt") as file:
        shapes = ast.literal_eval(file.metadata()["shapes"])
    tensors = filled(shapes)
    tensors["quantize.embedding.weight"] = golden()["table"]
    tensors["quantize.codebook_used"] = torch.zeros(65536)
    return tensors, {}

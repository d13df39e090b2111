"""VQ-VAEs of the rotation trick's authors at the size of their golden tensors."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from checkpoints.filled import filled
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

FILE = Path(__file__).resolve().parents[2] / "golden/rotation_trick.safetensors"
BOOK = ("embed", "embed_avg", "cluster_size", "initted")
KINDS = ("euclidean_8", "cosine_8", "cosine_4")  # codebook and `--f` there


def golden(kind: str) -> dict[str, Tensor]:
    """What the authors' code made of these weights; see golden/rotation_trick.md."""
    found = load_file(FILE)
    start = kind + "."
    return {k.removeprefix(start): t for k, t in found.items() if k.startswith(start)}


def sample(kind: str = "cosine_8") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors without `module.`, and the arguments of the training."""
    with safe_open(FILE, "pt") as file:
        shapes = ast.literal_eval(file.metadata()["shapes"])[kind]
    book = golden(kind)
    tensors = {**filled(shapes), **{f"vq._codebook.{name}": book[name] for name in BOOK}}
    codebook, f = kind.split("_")
    arguments = {"model": "rot_vqvae", "codebook": codebook, "f": int(f), "commit_weight": 1.0}
    return tensors, arguments

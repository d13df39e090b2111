"""Files of metric networks with random weights, in the forms that are about."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vqtok.metrics.frozen import Frozen
from vqtok.metrics.i3d import I3D
from vqtok.metrics.inception import Inception
from vqtok.metrics.lpips import Lpips
from vqtok.metrics.weights import KNOWN

VARIABLES = ("VQTOK_METRIC_WEIGHTS", *(known.variable for known in KNOWN.values()))


def random_tensors(net: Frozen, seed: int = 0) -> dict[str, Tensor]:
    """Values for all layers of an empty network that keep features at one size through it."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, empty in net.named_buffers():
        if empty.is_meta and empty.ndim > 1:
            scale = (2 / empty[0].numel()) ** 0.5
            found[name] = torch.randn(empty.shape, generator=generator) * scale
        elif empty.is_meta:
            found[name] = torch.rand(empty.shape, generator=generator) * 0.4 + 0.8
            if name.endswith(("bias", "mean")):
                found[name] -= 1
    return found


def random_weights(folder: Path, name: str, seed: int = 0) -> Path:
    """A safetensors file for "vgg16", "alexnet", "inception" or "i3d", called as usual."""
    makers = {
        "vgg16": lambda: Lpips("vgg").trunk,
        "alexnet": lambda: Lpips("alex").trunk,
        "inception": Inception,
        "i3d": I3D,
    }
    file = folder / next(f for f in KNOWN[name].files if f.endswith(".safetensors"))
    save_file(random_tensors(makers[name](), seed), file)
    return file


def layout(tensors: dict[str, Tensor]) -> str:
    """The beginning of a sha256 of all names and shapes."""
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

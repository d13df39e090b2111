"""Weights by a rule instead of a file: the same in any test and any environment of a reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["codes_among", "filled", "pixels"]


def filled(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Tensors of these names and shapes, by sorted name, from one stream of normal numbers.

    Matrices and kernels keep the size of what passes through; norms and biases are such that a
    mix-up of two shows.
    """
    stream = np.random.Generator(np.random.PCG64(seed))
    made: dict[str, Tensor] = {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        values = stream.standard_normal(shape)
        if len(shape) > 1:
            values /= np.sqrt(np.prod(shape[1:]))
        elif name.endswith("weight"):
            values = 1 + 0.3 * values
        else:
            values *= 0.1
        made[name] = torch.from_numpy(values).float()
    return made


def pixels(*shape: int, seed: int = 1) -> Tensor:
    """Uniform noise in [-1, 1]."""
    stream = np.random.Generator(np.random.PCG64(seed))
    return torch.from_numpy(stream.uniform(-1, 1, shape)).float()


def codes_among(latents: Tensor, count: int, seed: int = 2) -> Tensor:
    """Rows (N, D) -> (count, D) codes near some of them, so that tokens have many ids."""
    stream = np.random.Generator(np.random.PCG64(seed))
    chosen = stream.choice(len(latents), count, replace=len(latents) < count)
    noise = torch.from_numpy(stream.standard_normal((count, latents.shape[1]))).float()
    return latents[torch.from_numpy(chosen)] + 0.3 * latents.std(0) * noise

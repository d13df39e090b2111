"""Encoder and decoder pairs: one file an architecture.

An architecture is a function from settings to an `Architecture`. The networks between pixels and
latents are all it knows; quantizers, pixel ranges and loading belong to the autoencoders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from vqtok.registry import Registry

__all__ = ["ARCHITECTURES", "Architecture"]


class Architecture(NamedTuple):
    """Two networks, and by how much the first shrinks each axis."""

    encoder: nn.Module  # (B, C, *size) -> (B, D, *grid)
    decoder: nn.Module  # (B, D, *grid) -> (B, C, *size)
    stride: tuple[int, ...]  # size / grid, an axis each


ARCHITECTURES: Registry[Callable[..., Architecture]] = Registry("architecture", __name__)

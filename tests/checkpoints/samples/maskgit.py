"""A tiny MaskGIT-VQGAN, under the names of the published file."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from checkpoints.filled import filled
from torch import Tensor

WIDTHS = (32, 32, 64)  # groups of its norms are 32, whatever the width
LAYERS, DIM, CODES = 2, 8, 64

Shapes = dict[str, tuple[int, ...]]


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors as published, and what else one must say: nothing."""
    return filled(shapes()), {}


def shapes() -> Shapes:
    """Of all weights."""
    made = {
        "encoder.conv_in.weight": (WIDTHS[0], 3, 3, 3),
        **conv("encoder.conv_out", WIDTHS[-1], DIM, 1),
        **norm("encoder.norm_out", WIDTHS[-1]),
        **blocks("encoder.mid", WIDTHS[-1], WIDTHS[-1]),
        "quantize.embedding.weight": (CODES, DIM),
    }
    for level, (width, to) in enumerate(pairwise((WIDTHS[0], *WIDTHS))):
        made |= blocks(f"encoder.down.{level}.block", width, to)
    return made | decoder("decoder")


def decoder(name: str) -> Shapes:
    """Of what makes pixels of codes; TiTok has the same in its second stage."""
    made = {
        **conv(f"{name}.conv_in", DIM, WIDTHS[-1], 3),
        **blocks(f"{name}.mid", WIDTHS[-1], WIDTHS[-1]),
        **norm(f"{name}.norm_out", WIDTHS[0]),
        **conv(f"{name}.conv_out", WIDTHS[0], 3, 3),
    }
    for level, (to, width) in enumerate(pairwise((*WIDTHS, WIDTHS[-1]))):
        made |= blocks(f"{name}.up.{level}.block", width, to)
        if level:
            made |= conv(f"{name}.up.{level}.upsample_conv", to, to, 3)
    return made


def blocks(name: str, width: int, to: int) -> Shapes:
    made: Shapes = {}
    for layer in range(LAYERS):
        made |= block(f"{name}.{layer}", to if layer else width, to)
    return made


def block(name: str, width: int, to: int) -> Shapes:
    made = {
        **norm(f"{name}.norm1", width),
        f"{name}.conv1.weight": (to, width, 3, 3),
        **norm(f"{name}.norm2", to),
        f"{name}.conv2.weight": (to, to, 3, 3),
    }
    return made if width == to else {**made, f"{name}.nin_shortcut.weight": (to, to, 1, 1)}


def conv(name: str, width: int, to: int, size: int) -> Shapes:
    return {f"{name}.weight": (to, width, size, size), f"{name}.bias": (to,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

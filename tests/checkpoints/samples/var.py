"""A tiny tokenizer of VAR, under the names of the published file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from checkpoints.filled import filled
from torch import Tensor

CHANNELS, CODES, DIM = 32, 64, 8
LEVELS = (1, 1, 2, 2, 4)  # channels of each level, in units of the first one's
BLOCKS = 2
SCALES = (1, 2, 3, 4)
PHIS = 4

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors as published, and what else one must say."""
    tensors = filled(dict(shapes()))
    tensors["quantize.ema_vocab_hit_SV"].abs_()
    tensors["quantize.embedding.weight"] *= 2  # as long as latents, or few are used
    tensors["decoder.conv_out.weight"] *= 0.3  # within [-1, 1], where nothing is clamped
    return tensors, {"v_patch_nums": list(SCALES)}


def shapes(
    channels: int = CHANNELS,
    codes: int = CODES,
    dim: int = DIM,
    scales: tuple[int, ...] = SCALES,
) -> Shapes:
    """Key and shape of each tensor."""
    widths = [channels * level for level in LEVELS]
    yield from _layer("encoder.conv_in", 3, channels, 3)
    before = channels
    for level, width in enumerate(widths):
        yield from _level(f"encoder.down.{level}", before, width, BLOCKS, level)
        if level < len(widths) - 1:
            yield from _layer(f"encoder.down.{level}.downsample.conv", width, width, 3)
        before = width
    yield from _end("encoder", widths[-1], widths[-1], dim)
    yield from _layer("decoder.conv_in", dim, widths[-1], 3)
    before = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        yield from _level(f"decoder.up.{level}", before, width, BLOCKS + 1, level)
        if level:
            yield from _layer(f"decoder.up.{level}.upsample.conv", width, width, 3)
        before = width
    yield from _end("decoder", widths[-1], widths[0], 3)
    for name in ("quant_conv", "post_quant_conv"):
        yield from _layer(name, dim, dim, 3)
    yield "quantize.embedding.weight", (codes, dim)
    yield "quantize.ema_vocab_hit_SV", (len(scales), codes)
    for number in range(PHIS):
        yield from _layer(f"quantize.quant_resi.qresi_ls.{number}", dim, dim, 3)


def _end(side: str, middle: int, width: int, to: int) -> Shapes:
    """The middle, which is as wide as the last level, and what comes out."""
    yield from _block(f"{side}.mid.block_1", middle, middle)
    yield from _attention(f"{side}.mid.attn_1", middle)
    yield from _block(f"{side}.mid.block_2", middle, middle)
    yield from _norm(f"{side}.norm_out", width)
    yield from _layer(f"{side}.conv_out", width, to, 3)


def _level(name: str, before: int, width: int, blocks: int, level: int) -> Shapes:
    for number in range(blocks):
        yield from _block(f"{name}.block.{number}", width if number else before, width)
        if level == len(LEVELS) - 1:
            yield from _attention(f"{name}.attn.{number}", width)


def _block(name: str, before: int, width: int) -> Shapes:
    yield from _norm(f"{name}.norm1", before)
    yield from _layer(f"{name}.conv1", before, width, 3)
    yield from _norm(f"{name}.norm2", width)
    yield from _layer(f"{name}.conv2", width, width, 3)
    if before != width:
        yield from _layer(f"{name}.nin_shortcut", before, width, 1)


def _attention(name: str, width: int) -> Shapes:
    yield from _norm(f"{name}.norm", width)
    yield from _layer(f"{name}.qkv", width, 3 * width, 1)
    yield from _layer(f"{name}.proj_out", width, width, 1)


def _norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _layer(name: str, before: int, width: int, kernel: int) -> Shapes:
    yield f"{name}.weight", (width, before, kernel, kernel)
    yield f"{name}.bias", (width,)

"""MaskGIT's VQGAN as open-muse and TiTok's authors ported it: `maskgit-vqgan-imagenet-f16-256.bin`.

A flat file without wrappers. TiTok's second stage holds the decoder and the codes of the same
tokenizer under names of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import need, renamed, shape_of
from vqtok.checkpoints.recipes import BY_GRADIENT, CODES
from vqtok.checkpoints.taming_layout import GROUPS, levels_of
from vqtok.errors import LoadError
from vqtok.preprocess import Preprocess

__all__ = ["decoder_rules", "plan", "recognises", "shapes", "short_side"]

SIZE = 256  # of the pictures that it is trained on
MARKS = (
    "encoder.conv_in.weight",
    "encoder.conv_out.weight",
    "encoder.mid.0.norm1.weight",
    "decoder.conv_out.weight",
    "decoder.up.0.block.0.conv2.weight",
    "decoder.up.1.upsample_conv.weight",
    CODES,
)
BIASED = "encoder.conv_in.bias"  # taming's layout, and all that follow it but for this one

_BLOCK = r"block\.(\d+)\.", r"resnets.\1."
_RESNET = (
    (r"(norm[12])\.(weight|bias)", r"{0}.{1}"),
    (r"(conv[12])\.(weight)", r"{0}.{1}"),
    (r"(nin_shortcut)\.(weight)", r"conv_shortcut.{1}"),
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`."""
    return all(key in tensors for key in MARKS) and BIASED not in tensors


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    tensors, origin = foreign.tensors, foreign.origin
    need(tensors, MARKS, origin)
    levels = levels_of(tensors, "encoder.down.")
    rules = [
        *_encoder_rules(),
        *decoder_rules(levels, "decoder.", "decoder."),
        (re.escape(CODES), CODES),
    ]
    channels = shape_of(tensors, "encoder.conv_in.weight", 4, origin)[1]
    found = shapes(tensors, "decoder.", origin)
    if len(found["block_out_channels"]) != levels:
        raise LoadError(
            f"{origin} holds an encoder of {levels} levels and a decoder of "
            f"{len(found['block_out_channels'])}"
        )
    return Plan(
        architecture="maskgit",
        settings={
            "in_channels": channels,
            "out_channels": shape_of(tensors, "decoder.conv_out.weight", 4, origin)[0],
            **found,
            "latent_channels": shape_of(tensors, "encoder.conv_out.weight", 4, origin)[0],
            "sample_size": SIZE,
            "num_vq_embeddings": shape_of(tensors, CODES, 2, origin)[0],
            "pixel_mean": (0.0,) * channels,
            "pixel_std": (1.0,) * channels,
            "quantizer": "vector",
            "estimator": "ste",
            "quantizer_args": {**BY_GRADIENT, "commitment_weight": 0.25},
        },
        weights=renamed(tensors, rules, origin),
        preprocess=short_side(SIZE, 2 ** (levels - 1)),
        notes=(
            *NOTES,
            "It was trained in JAX, with .25 of the commitment loss, which is what training here "
            "goes on with, and with a loss on the entropy of codes, which it goes on without.",
        ),
    )


NOTES = (
    "Its networks see pixels in [0, 1]; encode and decode take and give [-1, 1] all the same.",
)


def shapes(tensors: Mapping[str, Tensor], decoder: str, origin: str) -> dict[str, Any]:
    """The settings of the convolutions that the decoder's shapes tell; it lies under `decoder`."""
    levels = levels_of(tensors, f"{decoder}up.")
    firsts = [f"{decoder}up.{level}.block.0.conv2.weight" for level in range(levels)]
    need(tensors, firsts, origin)
    return {
        "block_out_channels": tuple(shape_of(tensors, key, 4, origin)[0] for key in firsts),
        "layers_per_block": levels_of(tensors, f"{decoder}mid."),
        "norm_num_groups": GROUPS,
    }


def short_side(size: int, stride: int) -> Preprocess:
    """The short side by Pillow's bicubic, then the middle, as 1d-tokenizer evaluates."""
    return Preprocess(policy="torchvision", size=size, stride=stride, resize="pillow-bicubic")


def decoder_rules(levels: int, theirs: str, ours: str) -> list[tuple[str, str]]:
    """Names of the decoder under the prefix `theirs` -> under `ours`.

    There levels are counted by resolution, here as they run.
    """
    before = theirs.replace(".", r"\.")
    up = [(rf"{before}up\.{n}\.", f"{ours}up_blocks.{levels - 1 - n}.") for n in range(levels)]
    return [
        (rf"{before}(conv_in|norm_out|conv_out)\.(weight|bias)", rf"{ours}\1.\2"),
        *_resnets(rf"{before}mid\.(\d+)\.", rf"{ours}mid_block.\1."),
        *(rule for old, new in up for rule in _resnets(old + _BLOCK[0], new + _BLOCK[1])),
        *((rf"{old}upsample_conv\.(weight|bias)", rf"{new}upsample_conv.\1") for old, new in up),
    ]


def _encoder_rules() -> list[tuple[str, str]]:
    level = r"encoder\.down\.(\d+)\.block\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."
    return [
        (r"encoder\.conv_in\.weight", r"encoder.conv_in.weight"),
        *_resnets(*level),
        *_resnets(r"encoder\.mid\.(\d+)\.", r"encoder.mid_block.\1."),
        (r"encoder\.norm_out\.(weight|bias)", r"encoder.norm_out.\1"),
        (r"encoder\.conv_out\.(weight|bias)", r"quant_conv.\1"),
    ]


def _resnets(old: str, new: str) -> list[tuple[str, str]]:
    """The names in a residual block; `old` may have groups of its own."""
    first = old.count("(") + 1
    groups = rf"\{first}", rf"\{first + 1}"
    return [(old + inner, new + after.format(*groups)) for inner, after in _RESNET]


FAMILIES.register("maskgit")(
    Family(
        title="MaskGIT VQGAN",
        licence="Apache-2.0, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)

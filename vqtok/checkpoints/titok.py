"""TiTok: `model.safetensors` and config.json of its hub folders, or `tokenizer_titok_*.bin`.

A flat file without wrappers; config.json, and the YAML beside a .bin, have what matters under
`model.vq_model`. TiTok's text-aware sibling (TA-TiTok) and its variants without codes are told
apart and refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan, maskgit
from vqtok.checkpoints.keys import asked, need, renamed, shape_of
from vqtok.checkpoints.recipes import BY_GRADIENT, CODES
from vqtok.checkpoints.taming_layout import levels_of
from vqtok.checkpoints.told import flag, number, section
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import LoadError

__all__ = ["Side", "plan", "recognises"]

MARKS = (
    "latent_tokens",
    "encoder.latent_token_positional_embedding",
    "encoder.patch_embed.weight",
    "decoder.latent_token_positional_embedding",
)
TEXT = "decoder.text_guidance_proj.weight"
LOGITS = "decoder.ffn.2.weight"  # the decoder gives codes of another tokenizer, not pixels
PROXY = "pixel_quantize.embedding.weight"
PIXELS = "pixel_decoder."
NEEDED = (
    "encoder.conv_out.weight",
    "encoder.positional_embedding",
    "decoder.decoder_embed.weight",
    "decoder.ffn.0.weight",
    "decoder.mask_token",
    "decoder.positional_embedding",
)
# Axes of what has fewer or more here.
BETWEEN = {
    "encoder.conv_out.weight": 4,
    "decoder.decoder_embed.weight": 2,
    "decoder.mask_token": 3,
}
DIM_HEAD = 64  # of all its sizes, small, base and large

_ENDS = r"\.(weight|bias)"
_SIDE = r"(encoder|decoder)\."
_BLOCK = _SIDE + r"transformer\.(\d+)\."
RULES = (
    (r"latent_tokens", r"encoder.latent_tokens"),
    (r"encoder\.patch_embed" + _ENDS, r"encoder.from_patch.\1"),
    (_SIDE + r"class_embedding", r"\1.trunk.class_token"),
    (_SIDE + r"positional_embedding", r"\1.trunk.positions"),
    (_SIDE + r"latent_token_positional_embedding", r"\1.trunk.latent_positions"),
    (_SIDE + r"ln_pre" + _ENDS, r"\1.trunk.norm_in.\2"),
    (_SIDE + r"ln_post" + _ENDS, r"\1.trunk.norm_out.\2"),
    (_BLOCK + r"ln_1" + _ENDS, r"\1.trunk.blocks.\2.attention_norm.\3"),
    (_BLOCK + r"attn\.in_proj_(weight|bias)", r"\1.trunk.blocks.\2.attention.qkv.\3"),
    (_BLOCK + r"attn\.out_proj" + _ENDS, r"\1.trunk.blocks.\2.attention.out.\3"),
    (_BLOCK + r"ln_2" + _ENDS, r"\1.trunk.blocks.\2.mlp_norm.\3"),
    (_BLOCK + r"mlp\.c_fc" + _ENDS, r"\1.trunk.blocks.\2.mlp.0.\3"),
    (_BLOCK + r"mlp\.c_proj" + _ENDS, r"\1.trunk.blocks.\2.mlp.2.\3"),
    (r"encoder\.conv_out" + _ENDS, r"quant_conv.\1"),
    (r"decoder\.decoder_embed" + _ENDS, r"post_quant_conv.\1"),
    (r"decoder\.mask_token", r"decoder.mask_token"),
    (re.escape(CODES), CODES),
)
ONE_STAGE = (
    (r"decoder\.ffn\.0" + _ENDS, r"decoder.head.to_patch.\1"),
    (r"decoder\.conv_out" + _ENDS, r"decoder.head.conv_out.\1"),
)
TWO_STAGES = (
    (r"decoder\.ffn\.([02])" + _ENDS, r"decoder.head.to_codes.\1.\2"),
    (r"pixel_quantize\.embedding\.weight", r"decoder.head.mean.weight"),
)


class Side(NamedTuple):
    """The sizes of the encoder's transformer, or the decoder's."""

    channels: int
    depth: int
    heads: int
    grid: int


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`."""
    return all(key in tensors for key in MARKS)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    tensors, origin = foreign.tensors, foreign.origin
    _check_kind(tensors, origin)
    need(tensors, (*MARKS, *NEEDED), origin)
    two_stage = LOGITS in tensors
    networks = _networks(tensors, origin)
    size = networks["sample_size"]
    return Plan(
        architecture="titok",
        settings={
            **networks,
            "two_stage": two_stage,
            "pixel_mean": (0.0,) * networks["in_channels"],
            "pixel_std": (1.0,) * networks["in_channels"],
            **_quantizer(foreign.settings, origin),
        },
        weights=_weights(tensors, origin),
        preprocess=maskgit.short_side(size, size),
        notes=(*maskgit.NOTES, *(TRAINED if two_stage else ())),
    )


TRAINED = (
    "Its second stage trained the decoder alone, with the codes and convolutions of a "
    "MaskGIT-VQGAN in it; to go on as it did, freeze encoder and codebook.",
)


def _check_kind(tensors: Mapping[str, Tensor], origin: str) -> None:
    if TEXT in tensors:
        raise LoadError(
            f"{origin} is a TA-TiTok, whose decoder wants the text that belongs to a picture; "
            "vqtok takes TiTok alone"
        )
    if CODES not in tensors:
        raise LoadError(f"{origin} is a TiTok without codes (quantize_mode: vae)")
    if LOGITS in tensors and PROXY not in tensors:
        raise LoadError(
            f"{origin} is of TiTok's first stage: its decoder gives codes of MaskGIT-VQGAN, and "
            "no pixels; take the checkpoint of the second stage"
        )


def _weights(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    rules = [*RULES, *(TWO_STAGES if LOGITS in tensors else ONE_STAGE)]
    levels = levels_of(tensors, f"{PIXELS}up.")
    rules += maskgit.decoder_rules(levels, PIXELS, "decoder.head.to_pixels.")
    found = renamed(tensors, rules, origin)
    for key, axes in BETWEEN.items():
        shape_of(tensors, key, axes, origin)
    # What lies between the networks is of one dimension here, and the same matrices.
    found["quant_conv.weight"] = found["quant_conv.weight"][..., 0]
    found["post_quant_conv.weight"] = found["post_quant_conv.weight"][..., None]
    found["decoder.mask_token"] = found["decoder.mask_token"][0]
    if LOGITS in tensors:
        shape_of(tensors, PROXY, 2, origin)
        found["decoder.head.mean.weight"] = tensors[PROXY].T[..., None, None].contiguous()
    return found


def _networks(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Any]:
    """Settings of our networks, by shapes; the decoder's own only where they differ."""
    there, back = (_side(tensors, side, origin) for side in ("encoder", "decoder"))
    _, channels, _, patch = shape_of(tensors, "encoder.patch_embed.weight", 4, origin)
    codes, code_width = shape_of(tensors, CODES, 2, origin)
    size = there.grid * patch
    if size % back.grid:
        raise LoadError(
            f"the encoder in {origin} sees pictures of {size} x {size} pixels, which the "
            f"decoder's {back.grid} x {back.grid} patches do not divide"
        )
    own = {
        f"decoder_{name}": value
        for name, value, other in (
            ("channels", back.channels, there.channels),
            ("depth", back.depth, there.depth),
            ("heads", back.heads, there.heads),
            ("patch_size", size // back.grid, patch),
        )
        if value != other
    }
    return {
        "in_channels": channels,
        "out_channels": channels,
        "sample_size": size,
        "num_latent_tokens": shape_of(tensors, "latent_tokens", 2, origin)[0],
        "patch_size": patch,
        "latent_channels": there.channels,
        "depth": there.depth,
        "heads": there.heads,
        **own,
        **_proxy(tensors, origin),
        "num_vq_embeddings": codes,
        "vq_embed_dim": code_width,
    }


def _side(tensors: Mapping[str, Tensor], side: str, origin: str) -> Side:
    places, channels = shape_of(tensors, f"{side}.positional_embedding", 2, origin)
    grid = math.isqrt(places - 1)  # the first is the class token's
    if not grid or grid * grid != places - 1:
        raise LoadError(f"the {side} in {origin} has {places - 1} patches, which make no square")
    if channels % DIM_HEAD:
        raise LoadError(
            f"the {side} in {origin} is {channels} wide; TiTok's heads are {DIM_HEAD} wide each"
        )
    depth = levels_of(tensors, f"{side}.transformer.")
    return Side(channels, depth, channels // DIM_HEAD, grid)


def _proxy(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Any]:
    """Settings of the tokenizer in the decoder; {} where it gives pixels itself."""
    if LOGITS not in tensors:
        return {}
    count, width = shape_of(tensors, PROXY, 2, origin)
    convolutions = maskgit.shapes(tensors, PIXELS, origin)
    return {"proxy_codes": count, "proxy_channels": width, **convolutions}


def _quantizer(settings: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Settings of our quantizer by those of the source, under `model.vq_model` or by themselves."""
    said = hoisted(settings)
    said = {**section(said, "vq_model"), **said}
    what = "whether codes are compared by direction: true in L-32, B-64 and S-128, else false"
    asked(said, "use_l2_norm", what, origin)
    return {
        "quantizer": "vector",
        "estimator": "ste",
        "quantizer_args": {
            "use_cosine_sim": flag(said, "use_l2_norm", False),
            **BY_GRADIENT,
            # 0 in the settings of the second stage, which trains neither encoder nor codebook.
            "commitment_weight": number(said, "commitment_cost", 0.25, least=0) or 0.25,
        },
    }


FAMILIES.register("titok")(
    Family(
        title="TiTok",
        licence="Apache-2.0; its authors add: trained on ImageNet, for research only",
        recognises=recognises,
        plan=plan,
    )
)

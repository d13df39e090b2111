"""LlamaGen's VQ-16 and VQ-8, and whatever has its names, such as Janus' original file.

A release has the tensors under `model`, or under `ema`, which is what was measured; a training
checkpoint has both, and its discriminator under `discriminator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan, patchgan
from vqtok.checkpoints.keys import need, renamed
from vqtok.checkpoints.recipes import BY_GRADIENT, CODES, untold
from vqtok.checkpoints.taming_layout import (
    PROJECTIONS,
    decoder_weights,
    encoder_weights,
    settings_from_shapes,
    stride_of,
)
from vqtok.checkpoints.told import flag, number, whole
from vqtok.preprocess import Preprocess

__all__ = [
    "JANUS_PICTURES",
    "JANUS_SIZE",
    "assembled",
    "is_layout",
    "networks",
    "plan",
    "projections_and_codes",
]

USED = "quantize.codebook_used"
JUDGE = "discriminator."
SIZE, JANUS_SIZE = 256, 384
JANUS_PICTURES = (
    "Nothing tells which pictures the tokenizer of Janus was trained on. Here they are brought to "
    "a square as Janus does it with those that it reads: whole, by Pillow's bicubic, with grey "
    "around them. It rounds their short side down, to 14 pixels at least, and transformers "
    "resizes by torch's bicubic."
)
GREY = 127, 127, 127

_PART = r"\.(weight|bias)"
# The same networks as taming's, but for the order of the decoder's levels: here as they run.
TO_TAMING = (
    (r"encoder\.conv_blocks\.(\d+)\.res\.(.+)", r"encoder.down.\1.block.\2"),
    (r"encoder\.conv_blocks\.(\d+)\.attn\.(.+)", r"encoder.down.\1.attn.\2"),
    (r"encoder\.conv_blocks\.(\d+)\.downsample\.(.+)", r"encoder.down.\1.downsample.\2"),
    (r"decoder\.conv_blocks\.(\d+)\.res\.(.+)", r"decoder.up.\1.block.\2"),
    (r"decoder\.conv_blocks\.(\d+)\.attn\.(.+)", r"decoder.up.\1.attn.\2"),
    (r"decoder\.conv_blocks\.(\d+)\.upsample\.(.+)", r"decoder.up.\1.upsample.\2"),
    (r"(encoder|decoder)\.mid\.0\.(.+)", r"\1.mid.block_1.\2"),
    (r"(encoder|decoder)\.mid\.1\.(.+)", r"\1.mid.attn_1.\2"),
    (r"(encoder|decoder)\.mid\.2\.(.+)", r"\1.mid.block_2.\2"),
    (r"(encoder|decoder)\.(conv_in|norm_out|conv_out)" + _PART, r"\1.\2.\3"),
)


def is_layout(tensors: Mapping[str, Tensor]) -> bool:
    """Whether keys are LlamaGen's. Those of Janus' original file are the same."""
    marks = ("encoder.conv_blocks.0.res.0.conv1.weight", "decoder.mid.1.q.weight", CODES)
    return all(key in tensors for key in (*marks, *PROJECTIONS))


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    origin = foreign.origin
    theirs = {k: t for k, t in foreign.tensors.items() if not k.startswith(JUDGE)}
    dropped = {USED: "a record of recent ids, for a meter in training"} if USED in theirs else {}
    theirs.pop(USED, None)
    judge = {k.removeprefix(JUDGE): t for k, t in foreign.tensors.items() if k.startswith(JUDGE)}
    discriminator = patchgan.weights(judge)
    if not discriminator:
        dropped |= {JUDGE + key: "a discriminator of a kind that training has not" for key in judge}
    weights = {**networks(theirs, origin), **projections_and_codes(theirs, origin)}
    # Of Janus' own file, whose names are the same.
    janus = "gen_vision_config" in foreign.settings
    if janus:
        found = assembled(weights, foreign, JANUS_SIZE, janus=True)
    else:
        found = assembled(weights, foreign, whole(foreign.settings, "image_size", SIZE))
    family = "janus" if janus else None
    return replace(found, dropped=dropped, discriminator=discriminator, family=family)


def assembled(
    weights: dict[str, Tensor], foreign: Foreign, size: int, *, janus: bool = False
) -> Plan:
    """The plan for weights under our names; `size` is the side of pictures."""
    settings = settings_from_shapes(weights, foreign.origin)
    quantizer, more = _quantizer(foreign.settings)
    codes, width = weights[CODES].shape
    return Plan(
        architecture="cnn",
        settings={
            **settings,
            "sample_size": size,
            "num_vq_embeddings": codes,
            "vq_embed_dim": width,
            **quantizer,
        },
        weights=weights,
        preprocess=_pictures(size, stride_of(settings), janus),
        notes=(*more, *((JANUS_PICTURES,) if janus else ())),
    )


def _pictures(size: int, stride: int, janus: bool) -> Preprocess:
    """How the source brings pictures to that size."""
    if not janus:
        return Preprocess.preset("adm", size, stride)
    return Preprocess(
        policy="pad", size=size, stride=stride, resize="pillow-bicubic", background=GREY
    )


def networks(theirs: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """LlamaGen's encoder and decoder -> `encoder.*` and `decoder.*` of `AutoencoderVQ`."""
    own = {k: t for k, t in theirs.items() if k not in (*PROJECTIONS, CODES)}
    as_taming = renamed(own, TO_TAMING, origin)
    return {
        **encoder_weights(as_taming, origin),
        **decoder_weights(as_taming, origin, by_resolution=False),
    }


def projections_and_codes(theirs: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """What lies between the networks; it has the same names there and here."""
    need(theirs, [*PROJECTIONS, CODES], origin)
    return {key: theirs[key] for key in (*PROJECTIONS, CODES)}


def _quantizer(said: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of our quantizer by those of the source, or its defaults; and notes."""
    weight = number(said, "commit_loss_beta", 0.25, least=0)
    args = {**BY_GRADIENT, "commitment_weight": weight}
    notes = [*untold(said, {"codebook_l2_norm": True})]
    if flag(said, "codebook_l2_norm", True):
        args["use_cosine_sim"] = True
        notes.append(
            "Codes and latents are compared by direction; the decoder sees codes of length 1."
        )
    entropy = number(said, "entropy_loss_ratio", 0.0, least=0)
    if entropy:
        notes.append(
            f"It was trained with an entropy loss of weight {entropy:g}. That is no setting of the "
            "quantizer here but one of training: loss.entropy."
        )
    return {"quantizer": "vector", "quantizer_args": args, "estimator": "ste"}, tuple(notes)


FAMILIES.register("llamagen")(
    Family(
        title="VQ-16 or VQ-8 of LlamaGen",
        licence="MIT, code and published weights",
        recognises=is_layout,
        plan=plan,
    )
)

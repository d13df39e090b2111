"""What the authors of the rotation trick published with their paper.

Table 1, VQ-VAE, is code of their own: a file of DistributedDataParallel, the tensors under `model`
with `module.` before each, and the arguments of the training under `args`.

Table 3 was trained by latent diffusion's code and Table 4 by enhancing-transformers', and their
files look as those of these projects do, which take them. The YAML of Table 3 says rot_trick, by
which `ldm` knows how the authors trained them; Table 4 is to be asked for by this family's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan, recipes
from vqtok.checkpoints.directions import are_directions, dead
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.taming_layout import (
    decoder_weights,
    encoder_weights,
    settings_from_shapes,
    stride_of,
)
from vqtok.checkpoints.told import assumed, number
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["by_rotation", "plan", "recognises"]

BOOK = "vq._codebook."
CODES = BOOK + "embed"
STATE = {BOOK + "cluster_size": "quantize.count", BOOK + "embed_avg": "quantize.total"}
INWARD, NORM, OUTWARD = "pre_quant_proj.0.", "pre_quant_proj.1.", "post_quant_proj."
STARTED = BOOK + "initted"
PARTS = ("weight", "bias")
SIZE = 256
COMMITMENT = 1.0  # its weight by default
# CLIP's, to as many digits as the source has.
MEAN, STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
ESTIMATORS = {
    "dfp_vqvae": "exact",
    "rot_vqvae": "rotation",
    "vhp_vqvae": "hessian",
    "vqvae": "ste",
}
# Whose code Tables 3 and 4 were trained by.
OTHERS = ("enhancing_vit", "ldm", "taming")
AS_PUBLISHED = {"strict": True}  # rotated by whatever angle
RADIAL_FREE = (
    "As the authors' code trained it, the gradient is rotated without its radial part: the "
    "estimator rotation_radial_free."
)
IDENTITY = (
    "The source has no projection around the codes where latents are as wide as they are; here it "
    "is the identity, which training moves."
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`. This is Table 1."""
    marks = (CODES, BOOK + "embed_avg", "encoder.down.0.block.0.conv1.weight")
    return all(key in tensors for key in marks)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    if not recognises(foreign.tensors):
        return _of_other_code(foreign)
    origin, theirs = foreign.origin, foreign.tensors
    need(theirs, STATE, origin)
    _check_keys(theirs, origin)
    cosine = _cosine(theirs, foreign.settings, origin)
    table, more = _table(theirs, cosine)
    size, dim = table[recipes.CODES].shape
    weights = {
        **encoder_weights(theirs, origin),
        **decoder_weights(theirs, origin),
        **table,
    }
    settings = settings_from_shapes(weights, origin)
    weights |= _projections(theirs, settings["latent_channels"], dim, origin)
    quantizer, notes = _quantizer(foreign.settings, cosine, origin)
    return Plan(
        architecture="cnn",
        settings={
            **settings,
            "sample_size": SIZE,
            "num_vq_embeddings": size,
            "vq_embed_dim": dim,
            "pixel_mean": MEAN,
            "pixel_std": STD,
            **({"pre_quant_norm": "layer"} if _has(theirs, NORM) else {}),
            **quantizer,
        },
        weights=weights,
        preprocess=Preprocess(size=SIZE, stride=stride_of(settings)),
        dropped={STARTED: "codes are started"} if STARTED in theirs else {},
        notes=(
            "The source cuts 256 x 256 out of the middle of a picture, without resizing it; here "
            "pictures are resized to fit.",
            *more,
            *(() if _has(theirs, INWARD) and _has(theirs, OUTWARD) else (IDENTITY,)),
            *notes,
        ),
    )


def _of_other_code(foreign: Foreign) -> Plan:
    """Tables 3 and 4: the plan of the family that the file looks like, but for the estimator."""
    names = [name for name in OTHERS if FAMILIES[name].recognises(foreign.tensors)]
    if not names:
        raise LoadError(f"{foreign.origin} is no checkpoint of the rotation trick's authors")
    return by_rotation(FAMILIES[names[0]].plan(foreign))


def by_rotation(plan: Plan) -> Plan:
    """Of a checkpoint that another project's code trained: the plan with the authors' estimator."""
    if RADIAL_FREE in plan.notes:
        return plan
    settings = {
        **plan.settings,
        "estimator": "rotation_radial_free",
        "estimator_args": AS_PUBLISHED,
    }
    return replace(plan, settings=settings, notes=(*plan.notes, RADIAL_FREE))


def _check_keys(theirs: Mapping[str, Tensor], origin: str) -> None:
    known = ("encoder.", "decoder.", INWARD, NORM, OUTWARD)
    for key in theirs:
        if not key.startswith(known) and key not in (CODES, STARTED, *STATE):
            raise LoadError(f"{origin} holds {key!r}, which is no key of its family")
    table = theirs[CODES]
    if table.ndim != 3 or len(table) != 1:
        raise LoadError(f"{CODES} in {origin} has the shape (1, K, D); got {tuple(table.shape)}")


def _cosine(theirs: Mapping[str, Tensor], settings: Mapping[str, Any], origin: str) -> bool:
    """Whether codes are compared by direction, by their lengths, which must fit the settings."""
    shown = are_directions(theirs[CODES])
    said = settings.get("codebook")
    if said in ("cosine", "euclidean") and (said == "cosine") != shown:
        raise ConfigError(
            f"the settings say codebook={said!r}, and the codes in {origin} are "
            f"{'of length 1' if shown else 'not of length 1'}: they belong to another checkpoint"
        )
    return shown


def _table(theirs: Mapping[str, Tensor], cosine: bool) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The codes and their running means, and a note."""
    codes = theirs[CODES][0]
    found = {recipes.CODES: codes, **{ours: theirs[key][0] for key, ours in STATE.items()}}
    lost = dead(codes)
    if not cosine or not lost.any():
        return found, ()
    # What is left of them is rounding, and would be blown up to a length of 1.
    for name in (recipes.CODES, STATE[BOOK + "embed_avg"]):
        found[name] = found[name].masked_fill(lost[:, None], 0)
    return found, (
        f"{int(lost.sum())} of {len(codes)} codes died in training and have a length of 0. No "
        "vector finds them here, and in the source those more than 90 degrees off all others.",
    )


def _has(theirs: Mapping[str, Tensor], start: str) -> bool:
    return any(key.startswith(start) for key in theirs)


def _projections(
    theirs: Mapping[str, Tensor], width: int, dim: int, origin: str
) -> dict[str, Tensor]:
    """Linear layers as 1 x 1 convolutions; the identity where there is none, at equal widths."""
    normed = _has(theirs, NORM)
    inward, outward = "quant_conv.project." if normed else "quant_conv.", "post_quant_conv."
    found = {
        **_projection(theirs, INWARD, inward, width == dim and not normed, origin),
        **_projection(theirs, OUTWARD, outward, width == dim, origin),
    }
    if normed:
        need(theirs, [NORM + part for part in PARTS], origin)
        found |= {"quant_conv.norm." + part: theirs[NORM + part] for part in PARTS}
    return found


def _projection(
    theirs: Mapping[str, Tensor], old: str, new: str, optional: bool, origin: str
) -> dict[str, Tensor]:
    """A linear layer under our names, or where it is `optional` and absent the identity."""
    if optional and not _has(theirs, old):
        dim = theirs[CODES].shape[-1]
        return {new + "weight": torch.eye(dim)[:, :, None, None], new + "bias": torch.zeros(dim)}
    need(theirs, [old + part for part in PARTS], origin)
    return {
        new + "weight": theirs[old + "weight"][:, :, None, None],
        new + "bias": theirs[old + "bias"],
    }


def _quantizer(
    said: Mapping[str, Any], cosine: bool, origin: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of our quantizer, as the source trains it, and notes."""
    kind = said.get("model", "rot_vqvae")
    if not isinstance(kind, str) or kind not in ESTIMATORS:
        raise ConfigError(
            f"{origin} was trained as model={kind!r}; known are {', '.join(ESTIMATORS)}"
        )
    notes: tuple[str, ...] = ()
    if "model" not in said:
        notes = (
            "The file does not tell how the gradient crossed the codebook; training goes on by "
            "the rotation. Ids and pixels do not depend on it.",
        )
    said, more = assumed(said, {"commit_weight": COMMITMENT})
    args = {
        **recipes.BY_AVERAGE,
        "commitment_weight": number(said, "commit_weight", COMMITMENT, least=0),
    }
    if cosine:
        args["use_cosine_sim"] = True
    return {
        "quantizer": "vector",
        "quantizer_args": args,
        "estimator": ESTIMATORS[kind],
        **({"estimator_args": AS_PUBLISHED} if kind == "rot_vqvae" else {}),
    }, (*notes, *more)


FAMILIES.register("rotation_trick")(
    Family(
        title="the models of the rotation trick's authors",
        licence="none: neither code nor weights come with one",
        recognises=recognises,
        plan=plan,
    )
)

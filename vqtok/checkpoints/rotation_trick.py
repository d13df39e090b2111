"""What the authors of the rotation trick published with their paper.

Table 1, VQ-VAE, is code of their own: a file of DistributedDataParallel, the tensors under `model`
with `module.` before each, and the arguments of the training under `args`.

Table 3 was trained by latent diffusion's code and Table 4 by enhancing-transformers', and their
files look as those of these projects do, which take them, too. Asked for by its name, this family
takes them as well, and says how the authors trained them: by the rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.taming_layout import (
    decoder_weights,
    encoder_weights,
    settings_from_shapes,
)
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

BOOK = "vq._codebook."
CODES = BOOK + "embed"
STATE = {BOOK + "cluster_size": "quantize.count", BOOK + "embed_avg": "quantize.total"}
INWARD, NORM, OUTWARD = "pre_quant_proj.0.", "pre_quant_proj.1.", "post_quant_proj."
STARTED = BOOK + "initted"
PARTS = ("weight", "bias")
SIZE = 256
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
# A code of running means has a length of 1 only where it is normalised.
SAME_LENGTH = 1e-2
RADIAL_FREE = (
    "As the authors' code trained it, the gradient is rotated without its radial part: the "
    "estimator rotation_radial_free."
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
    codes = theirs[CODES][0]
    cosine = _cosine(theirs, foreign.settings, origin)
    weights = {
        **encoder_weights(theirs, origin),
        **decoder_weights(theirs, origin),
        "quantize.embedding.weight": codes,
        **{ours: theirs[key][0] for key, ours in STATE.items()},
    }
    settings = settings_from_shapes(weights, origin)
    weights |= _projections(theirs, settings["latent_channels"], codes.shape[1], origin)
    quantizer, notes = _quantizer(foreign.settings, cosine, origin)
    return Plan(
        architecture="cnn",
        settings={
            **settings,
            "sample_size": SIZE,
            "num_vq_embeddings": len(codes),
            "vq_embed_dim": codes.shape[1],
            "pixel_mean": MEAN,
            "pixel_std": STD,
            **({"pre_quant_norm": "layer"} if NORM + "weight" in theirs else {}),
            **quantizer,
        },
        weights=weights,
        preprocess=Preprocess(size=SIZE, stride=2 ** (len(settings["block_out_channels"]) - 1)),
        dropped={STARTED: "codes are started"} if STARTED in theirs else {},
        notes=(
            "The source cuts 256 x 256 out of the middle of a picture, without resizing it; here "
            "pictures are resized to fit.",
            *notes,
        ),
    )


def _of_other_code(foreign: Foreign) -> Plan:
    """Tables 3 and 4: the plan of the family that the file looks like, but for the estimator."""
    names = [name for name in OTHERS if FAMILIES[name].recognises(foreign.tensors)]
    if not names:
        raise LoadError(f"{foreign.origin} is no checkpoint of the rotation trick's authors")
    found = FAMILIES[names[0]].plan(foreign)
    settings = {
        **found.settings,
        "estimator": "rotation_radial_free",
        "estimator_args": AS_PUBLISHED,
    }
    return replace(found, settings=settings, notes=(*found.notes, RADIAL_FREE))


def _check_keys(theirs: Mapping[str, Tensor], origin: str) -> None:
    known = ("encoder.", "decoder.", INWARD, NORM, OUTWARD)
    for key in theirs:
        if not key.startswith(known) and key not in (CODES, STARTED, *STATE):
            raise LoadError(f"{origin} holds {key!r}, which is no key of its family")
    table = theirs[CODES]
    if table.ndim != 3 or len(table) != 1:
        raise LoadError(f"{CODES} in {origin} has the shape (1, K, D); got {tuple(table.shape)}")


def _cosine(theirs: Mapping[str, Tensor], settings: Mapping[str, Any], origin: str) -> bool:
    """Whether codes are compared by direction: such codes have a length of 1, and no others."""
    shown = bool(((theirs[CODES].float().norm(dim=-1) - 1).abs() <= SAME_LENGTH).all())
    said = settings.get("codebook")
    if said in ("cosine", "euclidean") and (said == "cosine") != shown:
        raise ConfigError(
            f"the settings say codebook={said!r}, and the codes in {origin} are "
            f"{'of length 1' if shown else 'not of length 1'}: they belong to another checkpoint"
        )
    return shown


def _projections(
    theirs: Mapping[str, Tensor], width: int, dim: int, origin: str
) -> dict[str, Tensor]:
    """Linear layers as 1 x 1 convolutions; the identity where the widths are equal."""
    normed = NORM + "weight" in theirs
    inward, outward = "quant_conv.project." if normed else "quant_conv.", "post_quant_conv."
    if width == dim:
        eye, zeros = torch.eye(dim)[:, :, None, None], torch.zeros(dim)
        return {
            name + part: (eye if part == "weight" else zeros).clone()
            for name in (inward, outward)
            for part in PARTS
        }
    names = {INWARD: inward, OUTWARD: outward, **({NORM: "quant_conv.norm."} if normed else {})}
    need(theirs, [start + part for start in names for part in PARTS], origin)
    found = {new + part: theirs[old + part] for old, new in names.items() for part in PARTS}
    return {key: t[:, :, None, None] if t.ndim == 2 else t for key, t in found.items()}


def _quantizer(
    said: Mapping[str, Any], cosine: bool, origin: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of our quantizer, as the source trains it, and notes."""
    kind = said.get("model", "rot_vqvae")
    if kind not in ESTIMATORS:
        raise ConfigError(
            f"{origin} was trained as model={kind!r}; known are {', '.join(ESTIMATORS)}"
        )
    notes: tuple[str, ...] = ()
    if "model" not in said:
        notes = (
            "The file does not tell how the gradient crossed the codebook; training goes on by "
            "the rotation. Ids and pixels do not depend on it.",
        )
    args: dict[str, Any] = {
        "decay": 0.8,
        "dead_codes": "off",
        "start": "kaiming",
        "commitment_weight": float(said.get("commit_weight", 1.0)),
    }
    if cosine:
        args["use_cosine_sim"] = True
    return {
        "quantizer": "vector",
        "quantizer_args": args,
        "estimator": ESTIMATORS[kind],
        **({"estimator_args": AS_PUBLISHED} if kind == "rot_vqvae" else {}),
    }, notes


FAMILIES.register("rotation_trick")(
    Family(
        title="the models of the rotation trick's authors",
        licence="none: neither code nor weights come with one",
        recognises=recognises,
        plan=plan,
    )
)

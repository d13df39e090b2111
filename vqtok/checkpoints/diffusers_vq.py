"""A bare weight file of diffusers' VQModel: also MoVQ, and amused's tokenizer.

Beside the file: VQModel's config.json. A folder with both loads as it is, too. Older
files have other names for the parts of attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked, need
from vqtok.checkpoints.recipes import CODES
from vqtok.checkpoints.taming_layout import PROJECTIONS, settings_from_shapes, stride_of
from vqtok.checkpoints.told import choice, flag, listed, number, whole
from vqtok.errors import ConfigError
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

SPATIAL = "decoder.conv_norm_out.norm_layer.weight"
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(rf"(.+\.attentions\.\d+\.)({'|'.join(OLD_NAMES)})(\.\w+)")
# What no shape tells, and what it is where nobody says so.
UNTOLD: dict[str, Any] = {
    "act_fn": "silu",
    "force_upcast": False,
    "lookup_from_codebook": False,
    "norm_num_groups": 32,
    "sample_size": 32,
    "scaling_factor": 1.0,
}
SCALING = (
    "No config.json says scaling_factor, so it is 1: VQModel's default, .18215, is that of another "
    "kind of latents."
)
ACTIVATIONS = ("silu", "swish", "mish", "gelu", "relu")


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are diffusers' blocks of pictures around one table."""
    marks = ("encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight", *PROJECTIONS)
    quantizer = {key for key in tensors if key.startswith("quantize.")}
    return all(key in tensors and tensors[key].ndim != 5 for key in marks) and quantizer == {CODES}


def plan(foreign: Foreign) -> Plan:
    """The same model; what the file does not tell is from config.json."""
    origin, told = foreign.origin, foreign.settings
    weights = {_newer(key): tensor for key, tensor in foreign.tensors.items()}
    need(weights, [CODES, *PROJECTIONS], origin)
    codes, width = weights[CODES].shape
    settings = {
        **settings_from_shapes(weights, origin),
        "norm_type": "spatial" if SPATIAL in weights else "group",
        "num_vq_embeddings": codes,
        "vq_embed_dim": width,
        **_told(told),
        **TRAINING,
    }
    settings["norm_num_groups"] = _groups(settings["block_out_channels"], told, origin)
    return Plan(
        architecture="cnn",
        settings=settings,
        weights=weights,
        preprocess=Preprocess(policy="native", stride=stride_of(settings)),
        notes=_notes(told),
    )


def _newer(key: str) -> str:
    return _OLD.sub(lambda found: found[1] + OLD_NAMES[found[2]] + found[3], key)


def _told(told: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of what no shape tells, but for the groups of norms."""
    found = {
        "act_fn": choice(told, "act_fn", UNTOLD["act_fn"], ACTIVATIONS),
        "sample_size": whole(told, "sample_size", UNTOLD["sample_size"]),
        "scaling_factor": number(told, "scaling_factor", UNTOLD["scaling_factor"], above=0),
        **{n: flag(told, n, UNTOLD[n]) for n in ("force_upcast", "lookup_from_codebook")},
    }
    return {name: value for name, value in found.items() if name in told}


def _notes(told: Mapping[str, Any]) -> tuple[str, ...]:
    left = {name: value for name, value in UNTOLD.items() if name not in told}
    scaling = (SCALING,) if left.pop("scaling_factor", None) else ()
    if not left:
        return scaling
    return (f"No config.json tells {listed(left)}: VQModel's defaults are taken.", *scaling)


def _groups(widths: Sequence[int], told: Mapping[str, Any], origin: str) -> int:
    """Of each norm: nearly always 32, and always told where that cannot be."""
    usual = int(UNTOLD["norm_num_groups"])
    if any(width % usual for width in widths):
        asked(told, "norm_num_groups", "the groups of each norm, nearly always 32", origin)
    groups = whole(told, "norm_num_groups", usual)
    for width in widths:
        if width % groups:
            raise ConfigError(
                f"the settings say norm_num_groups={groups}, which does not divide the {width} "
                f"channels of a level in {origin}"
            )
    return groups


FAMILIES.register("diffusers_vq")(
    Family(
        title="diffusers VQModel",
        licence="that of the repository it comes from",
        recognises=recognises,
        plan=plan,
    )
)

"""A bare weight file of diffusers' VQModel: also MoVQ, and amused's tokenizer.

Beside the file: VQModel's config.json. A folder with both is a model of this package as it is,
and needs no conversion. Older files have other names for the parts of attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.autoencoders.stock import TRAINING
from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked, need
from vqtok.checkpoints.taming_layout import PROJECTIONS, settings_from_shapes
from vqtok.preprocess import Preprocess

__all__ = ["plan", "recognises"]

TABLE = "quantize.embedding.weight"
SPATIAL = "decoder.conv_norm_out.norm_layer.weight"
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(rf"(.+\.attentions\.\d+\.)({'|'.join(OLD_NAMES)})(\.\w+)")
# What no shape tells, and what it is where nobody says so.
UNTOLD = ("act_fn", "force_upcast", "lookup_from_codebook", "sample_size", "scaling_factor")
SCALING = (
    "No config.json says scaling_factor, so it is 1: VQModel's default, .18215, is that of another "
    "kind of latents."
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are diffusers' blocks of pictures around one table."""
    marks = ("encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight", *PROJECTIONS)
    quantizer = {key for key in tensors if key.startswith("quantize.")}
    return all(key in tensors and tensors[key].ndim != 5 for key in marks) and quantizer == {TABLE}


def plan(foreign: Foreign) -> Plan:
    """The same model; what the file does not tell is from config.json."""
    origin, told = foreign.origin, foreign.settings
    weights = {_newer(key): tensor for key, tensor in foreign.tensors.items()}
    need(weights, [TABLE, *PROJECTIONS], origin)
    codes, width = weights[TABLE].shape
    settings = {
        **settings_from_shapes(weights, origin),
        "norm_type": "spatial" if SPATIAL in weights else "group",
        "num_vq_embeddings": codes,
        "vq_embed_dim": width,
        **{name: told[name] for name in UNTOLD if name in told},
        **TRAINING,
    }
    settings["norm_num_groups"] = _groups(settings, told, origin)
    stride = 2 ** (len(settings["block_out_channels"]) - 1)
    return Plan(
        architecture="cnn",
        settings=settings,
        weights=weights,
        preprocess=Preprocess(policy="native", stride=stride),
        notes=() if "scaling_factor" in told else (SCALING,),
    )


def _newer(key: str) -> str:
    return _OLD.sub(lambda found: found[1] + OLD_NAMES[found[2]] + found[3], key)


def _groups(settings: Mapping[str, Any], told: Mapping[str, Any], origin: str) -> int:
    """Of each norm: nearly always 32, and always told where that cannot be."""
    usual = int(settings["norm_num_groups"])
    if all(width % usual == 0 for width in settings["block_out_channels"]):
        return int(told.get("norm_num_groups", usual))
    return int(asked(told, "norm_num_groups", "the groups of each norm, nearly always 32", origin))


FAMILIES.register("diffusers_vq")(
    Family(
        title="diffusers VQModel",
        licence="that of the repository it comes from",
        recognises=recognises,
        plan=plan,
    )
)

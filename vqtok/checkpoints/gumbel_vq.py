"""GumbelVQ of taming-transformers, such as its f8 model of OpenImages with 8192 codes.

Wrappers: `state_dict`. Beside the file: the YAML of its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.taming_parts import SCORES, Parts, inner, kind_of, parts_of
from vqtok.errors import LoadError

__all__ = ["plan", "recognises"]

KL_WEIGHT = 1e-8  # GumbelVQ's default
DRAWN = (
    "The source draws its ids at random when it evaluates, too; ids here are the most probable "
    "ones, and the same each time."
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `kind_of`."""
    return kind_of(tensors) == "gumbel_vq"


def plan(foreign: Foreign) -> Plan:
    """Both networks, the scores of codes, and their vectors."""
    parts = parts_of(foreign)
    need(parts.quantizer, sorted(SCORES), f"the quantizer of {foreign.origin}")
    scores, table = parts.quantizer["proj.weight"].flatten(1), parts.quantizer["embed.weight"]
    width = parts.settings["vq_embed_dim"]
    if scores.shape != table.shape or table.shape[1] != width:
        raise LoadError(
            f"{foreign.origin} holds scores {tuple(scores.shape)} and codes {tuple(table.shape)} "
            f"for latents of {width} dimensions; all three have as many"
        )
    temperature, notes = _temperature(parts)
    weights = {
        "proj.weight": scores,
        "proj.bias": parts.quantizer["proj.bias"],
        "embedding.weight": table,
    }
    settings = {
        "quantizer": "gumbel",
        "quantizer_args": {
            "kl_weight": parts.told.get("kl_weight", KL_WEIGHT),
            "temperature": temperature,
        },
    }
    return parts.plan(settings, weights, [DRAWN, *notes])


def _temperature(parts: Parts) -> tuple[float, list[str]]:
    """Of training's draws at the end of the schedule, which the YAML tells."""
    schedule: dict[str, Any] = inner(inner(parts.told, "temperature_scheduler_config"), "params")
    if "lr_min" in schedule:
        return float(schedule["lr_min"]), []
    return 1.0, [
        "The temperature that its draws ended with is not in the file: training would go on with "
        "1, or with what anneal.temperature says. Ids do not depend on it."
    ]


FAMILIES.register("gumbel_vq")(
    Family(
        title="GumbelVQ of taming-transformers",
        licence="MIT (code); CompVis names none for its weights",
        recognises=recognises,
        plan=plan,
    )
)

"""GumbelVQ of taming-transformers, such as its f8 model of OpenImages with 8192 codes.

Wrappers: `state_dict`. Beside the file: the YAML of its training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.taming_parts import SCORES, kind_of, parts_of
from vqtok.checkpoints.told import assumed, number, section, whole
from vqtok.errors import LoadError

__all__ = ["plan", "recognises"]

KL_WEIGHT = 1e-8  # GumbelVQ's default
# Of a temperature. Its schedules end with next to nothing, where softened draws are hard ones in
# float32, and no gradient at all passes.
LEAST = 1 / 16
STEP = "global_step"
SCHEDULE = {"warm_up_steps", "max_decay_steps", "lr_start", "lr_max", "lr_min"}
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
    kl_weight, assumptions = _kl_weight(parts.told)
    temperature, notes = _temperature(parts.told)
    weights = {
        "proj.weight": scores,
        "proj.bias": parts.quantizer["proj.bias"],
        "embedding.weight": table,
    }
    settings = {
        "quantizer": "gumbel",
        "quantizer_args": {"kl_weight": kl_weight, "temperature": temperature},
    }
    return parts.plan(settings, weights, [DRAWN, *assumptions, *notes])


def _kl_weight(told: Mapping[str, Any]) -> tuple[float, tuple[str, ...]]:
    """Of the loss that takes scores to uniform ones; where nothing tells, GumbelVQ's default."""
    loss = section(told, "lossconfig", "params")
    has_yaml = "temperature_scheduler_config" in told  # which no GumbelVQ can be made without
    said, notes = (told, ()) if has_yaml else assumed(told, {"kl_weight": KL_WEIGHT})
    weight = number(said, "kl_weight", KL_WEIGHT, least=0)
    return weight * number(loss, "codebook_weight", 1.0, least=0), notes


def _temperature(told: Mapping[str, Any]) -> tuple[float, tuple[str, ...]]:
    """That training's draws go on with: where they ended, by the YAML and the file's step."""
    schedule = section(told, "temperature_scheduler_config", "params")
    ended = _ended(told, schedule)
    found = number(schedule, "lr_start", 1.0, above=0) if ended is None else ended
    taken = max(found, LEAST)
    if taken == ended:
        return taken, ()
    why = "is not in the file" if ended is None else f"is {ended:g}, which lets no gradient pass"
    return taken, (
        f"The temperature that its draws ended with {why}: training would go on with "
        f"{taken:g}, or with what anneal.temperature says. Ids do not depend on it.",
    )


def _ended(told: Mapping[str, Any], schedule: Mapping[str, Any]) -> float | None:
    """taming's LambdaWarmUpCosineScheduler at the step that the file says it was left at."""
    if STEP not in told or not schedule.keys() >= SCHEDULE:
        return None
    step = whole(told, STEP, 0, least=0)
    start, high, low = (number(schedule, f"lr_{n}", 1.0, least=0) for n in ("start", "max", "min"))
    rising = whole(schedule, "warm_up_steps", 0, least=0)
    falling = whole(schedule, "max_decay_steps", 0, least=0) - rising
    if step < rising:
        return start + (high - start) * step / rising
    share = min((step - rising) / falling, 1.0) if falling > 0 else 1.0
    return low + (high - low) * (1 + math.cos(share * math.pi)) / 2


FAMILIES.register("gumbel_vq")(
    Family(
        title="GumbelVQ of taming-transformers",
        licence="MIT (code); CompVis names none for its weights",
        recognises=recognises,
        plan=plan,
    )
)

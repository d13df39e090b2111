"""IBQ of TencentARC's SEED-Voken: taming's networks with four blocks a level, 2^10 to 2^18 codes.

A Lightning checkpoint: the tensors lie under `state_dict`, with their running means under
`model_ema.`, which the source evaluates with, and the loss networks under `loss.`. The YAML has
everything under `model.init_args`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import need
from vqtok.checkpoints.open_magvit2 import ENTROPIES, entropy_settings
from vqtok.checkpoints.taming_layout import is_layout
from vqtok.checkpoints.taming_parts import IBQ, TABLE, inner, parts_of

__all__ = ["plan", "recognises"]


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`. A VQGAN of taming's with as many blocks cannot be told from it by its keys."""
    own = {key.removeprefix("quantize.") for key in tensors if key.startswith("quantize.")}
    return own == TABLE and IBQ in tensors and is_layout(tensors)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    parts = parts_of(foreign)
    need(parts.quantizer, TABLE, f"the quantizer of {foreign.origin}")
    table = parts.quantizer["embedding.weight"]
    settings = {
        "num_vq_embeddings": len(table),
        "quantizer": "ibq",
        "quantizer_args": _training(parts.told),
        "estimator": None,
    }
    return parts.plan(settings, {"embedding.weight": table})


def _training(told: Mapping[str, Any]) -> dict[str, Any]:
    """How the source trains codes; where nothing tells, as the published ones were."""
    loss = inner(inner(told, "lossconfig"), "params")
    distance = float(loss.get("quant_loss_weight", 1.0))
    entropy = float(loss.get("entropy_loss_weight", 0.05))
    if not told.get("use_entropy_loss", True):
        entropy = 0.0
    return {
        "commitment_weight": distance,
        "codebook_weight": distance * float(told.get("beta", 0.25)),
        "double_weight": distance,
        **entropy_settings(told, entropy, *ENTROPIES),
        "entropy_temperature": float(told.get("entropy_temperature", 0.01)),
    }


FAMILIES.register("ibq")(
    Family(
        title="IBQ of SEED-Voken",
        licence="Apache-2.0, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)

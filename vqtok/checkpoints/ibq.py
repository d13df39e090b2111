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
from vqtok.checkpoints.taming_layout import is_layout
from vqtok.checkpoints.taming_parts import IBQ, TABLE, parts_of
from vqtok.checkpoints.told import assumed, entropy_settings, flag, number, section

__all__ = ["plan", "recognises"]

# What matters of the settings of all that were published.
PUBLISHED = {
    "quant_loss_weight": 1.0,
    "entropy_loss_weight": 0.05,
    "use_entropy_loss": True,
    "sample_minimization_weight": 1.0,
    "batch_maximization_weight": 1.0,
    "entropy_temperature": 0.01,
    "beta": 0.25,
}


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """See `Family`. A VQGAN of taming's with as many blocks cannot be told from it by its keys."""
    own = {key.removeprefix("quantize.") for key in tensors if key.startswith("quantize.")}
    return own == TABLE and IBQ in tensors and is_layout(tensors)


def plan(foreign: Foreign) -> Plan:
    """See `Family`."""
    parts = parts_of(foreign)
    need(parts.quantizer, TABLE, f"the quantizer of {foreign.origin}")
    table = parts.quantizer["embedding.weight"]
    training, notes = _training(parts.told)
    settings = {
        "num_vq_embeddings": len(table),
        "quantizer": "ibq",
        "quantizer_args": training,
        "estimator": None,
    }
    return parts.plan(settings, {"embedding.weight": table}, notes)


def _training(told: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How the source trains codes; where nothing tells, as the published ones were. And notes."""
    loss = section(told, "lossconfig", "params")
    said, notes = ({**told, **loss}, ()) if loss else assumed(told, PUBLISHED)
    # Without the loss of entropy the source weighs by another of its settings.
    weighs = flag(said, "use_entropy_loss", False)
    distance = number(said, "quant_loss_weight" if weighs else "codebook_weight", 1.0, least=0)
    entropy = number(said, "entropy_loss_weight", 1.0, least=0) if weighs else 0.0
    args = {
        "commitment_weight": distance,
        "codebook_weight": distance * number(said, "beta", 0.25, least=0),
        "double_weight": distance,
        **entropy_settings(
            said, entropy, "sample_minimization_weight", "batch_maximization_weight"
        ),
        "entropy_temperature": number(said, "entropy_temperature", 0.01, above=0),
    }
    return args, notes


FAMILIES.register("ibq")(
    Family(
        title="IBQ of SEED-Voken",
        licence="Apache-2.0, code and published weights",
        recognises=recognises,
        plan=plan,
    )
)

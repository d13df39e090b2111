"""From a foreign checkpoint to a model of ours that holds each of its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.opening import open_checkpoint
from vqtok.checkpoints.report import Report, by_reason
from vqtok.errors import LoadError
from vqtok.preprocess import Preprocess
from vqtok.quantizers import TRAINING_STATE
from vqtok.registry import construct

__all__ = ["AUTO", "Conversion", "build", "recognise"]

AUTO = "auto"
# How many keys a message lists.
SHOWN = 4


@dataclass(frozen=True)
class Conversion:
    """A foreign checkpoint as our model, in eval mode, and what is to be known of it.

    discriminator  under the names of ours where the source's has its layers; {} where it has none
    """

    model: AutoencoderBase
    preprocess: Preprocess
    family: str
    report: Report
    discriminator: dict[str, Tensor]


def build(
    source: Foreign | str | os.PathLike[str],
    family: str = AUTO,
    config: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Conversion:
    """The model of a checkpoint; `LoadError` or `ConfigError` where it cannot be one in full.

    `family` is a name of `FAMILIES`, or "auto", which goes by the keys. `config` and `settings`
    are for files, as `open_checkpoint` takes them.
    """
    if not isinstance(source, Foreign):
        source = open_checkpoint(source, config=config, settings=settings)
    name = recognise(source) if family == AUTO else family
    plan = FAMILIES[name].plan(source)
    kind = AUTOENCODERS[plan.architecture]
    model = construct(kind, f"the architecture {plan.architecture!r}", **plan.settings)
    new = _fill(model, plan, source.origin)
    report = _report(source, name, plan, new)
    return Conversion(model.eval(), plan.preprocess, name, report, plan.discriminator)


def recognise(source: Foreign) -> str:
    """The name of the family whose keys these are."""
    found = [name for name in FAMILIES if FAMILIES[name].recognises(source.tensors)]
    if not found:
        names = list(source.tensors)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise LoadError(
            f"{source.origin} is of no family that is known. Its keys are "
            f"{', '.join(names[:SHOWN])}{more}. Known families: {', '.join(FAMILIES)}."
        )
    if len(found) > 1:
        raise LoadError(
            f"{source.origin} could be of any of the families {', '.join(found)}; name one"
        )
    return found[0]


def _fill(model: AutoencoderBase, plan: Plan, origin: str) -> tuple[str, ...]:
    """Loads the weights, strictly, and returns the names of training state that they lack."""
    own, given = model.state_dict(), plan.weights
    state = {key for key in own if key.rsplit(".", 1)[-1] in TRAINING_STATE}
    lacking = [key for key in own if key not in given and key not in state]
    if lacking:
        raise LoadError(
            f"{origin} lacks {len(lacking)} of the model's {len(own)} tensors, among them "
            f"{lacking[0]!r} of shape {_shape(own[lacking[0]])}"
        )
    for key, tensor in given.items():
        if key not in own:
            raise LoadError(
                f"{origin} has {key!r} of shape {_shape(tensor)}, for which the model that its "
                "settings describe has no place"
            )
        if tensor.shape != own[key].shape:
            raise LoadError(
                f"{origin} has {key!r} of shape {_shape(tensor)}, and in the model that its "
                f"settings describe it is {_shape(own[key])}"
            )
    model.load_state_dict(given, strict=False)
    return tuple(sorted(state - given.keys()))


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "()"


def _report(source: Foreign, name: str, plan: Plan, new: tuple[str, ...]) -> Report:
    family = FAMILIES[name]
    return Report(
        origin=source.origin,
        family=name,
        title=family.title,
        licence=family.licence,
        tensors=len(plan.weights),
        parameters=sum(tensor.numel() for tensor in plan.weights.values()),
        dropped=by_reason(plan.dropped),
        discriminator=len(plan.discriminator),
        new=new,
        notes=(*source.notes, *plan.notes),
    )

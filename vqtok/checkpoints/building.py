"""From a foreign checkpoint to a model of ours that holds each of its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.opening import open_checkpoint
from vqtok.checkpoints.report import Report, by_reason
from vqtok.checkpoints.strangers import stranger
from vqtok.errors import ConfigError, LoadError, VqtokError
from vqtok.preprocess import Preprocess
from vqtok.quantizers import TRAINING_STATE
from vqtok.registry import construct

__all__ = ["AUTO", "Conversion", "build", "recognise"]

AUTO = "auto"
# How many keys a message lists.
SHOWN = 4
# Of weights. A float8 is worth nothing without its scale, which lies elsewhere.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
    others = [] if family == AUTO else _others(source, family)
    try:
        plan, model = _planned(source, name)
        new = _fill(model, plan, source.origin)
    except VqtokError as error:
        if others:
            error.add_note(f"By its keys it is of the family {others[0]}, and not of {family}")
        raise
    if others and plan.family != family:
        said = f"By its keys it is of the family {others[0]}; it was read as {family}, as told."
        plan = replace(plan, notes=(*plan.notes, said))
    name = plan.family or name
    report = _report(source, name, plan, new)
    return Conversion(model.eval(), plan.preprocess, name, report, plan.discriminator)


def _planned(source: Foreign, name: str) -> tuple[Plan, AutoencoderBase]:
    """What a family says of it, and the model of that, without its weights."""
    family = FAMILIES[name]
    with _fitting(source, name):
        plan = family.plan(source)
        kind = AUTOENCODERS[plan.architecture]
        what = f"the architecture {plan.architecture!r}"
        return plan, construct(kind, what, **plan.settings)


def _recognised(source: Foreign, name: str) -> bool:
    with _fitting(source, name):
        return FAMILIES[name].recognises(source.tensors)


@contextmanager
def _fitting(source: Foreign, name: str) -> Iterator[None]:
    """Keys make a family, and any tensor may lie under one: what it stumbles over is the file's."""
    try:
        yield
    except ConfigError as error:
        if not source.unread:
            raise
        fuller = ConfigError(f"{error}. {source.unread}")
        for note in getattr(error, "__notes__", ()):
            fuller.add_note(note)
        raise fuller from error
    except VqtokError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise LoadError(
            f"{source.origin} looks like {name}, but its tensors do not fit together: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def recognise(source: Foreign) -> str:
    """The name of the family whose keys these are."""
    found = [name for name in FAMILIES if _recognised(source, name)]
    known = stranger(source.tensors) if not found else None
    if known is not None:
        raise LoadError(f"{source.origin} {known}")
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


def _others(source: Foreign, family: str) -> list[str]:
    """The families that its keys make it, where the one that was named is not among them."""
    FAMILIES[family]  # which raises where there is none
    found = [name for name in FAMILIES if _recognised(source, name)]
    return [] if family in found else found


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
        if own[key].is_floating_point():
            _check_numbers(key, tensor, own[key].dtype, origin)
    for key, tensor in plan.discriminator.items():
        _check_numbers(key, tensor, tensor.dtype, origin)
    model.load_state_dict(given, strict=False)
    return tuple(sorted(state - given.keys()))


def _check_numbers(key: str, tensor: Tensor, wanted: torch.dtype, origin: str) -> None:
    """Raises where a weight is of no plain floating-point numbers, each finite as `wanted`."""
    if tensor.dtype not in FLOATS:
        names = ", ".join(_name(dtype) for dtype in FLOATS)
        raise LoadError(
            f"{origin} has {key!r} as {_name(tensor.dtype)}; a weight is one of {names}, and files "
            "that are quantised to less cannot be read"
        )
    if not bool(tensor.to(wanted).isfinite().all()):
        raise LoadError(
            f"{origin} has NaN or infinity in {key!r}; a training that diverged leaves such, or a "
            "damaged file"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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

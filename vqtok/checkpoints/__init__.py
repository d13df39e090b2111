"""Checkpoints of other projects -> our models: one file a family.

A family says how its checkpoints are known by their keys, and which of our models they are, by a
`Plan`. Opening files, taking off wrappers and prefixes, building the model and the report are done
once, for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from vqtok.preprocess import Preprocess
from vqtok.registry import Registry

__all__ = ["FAMILIES", "Family", "Foreign", "Plan"]


@dataclass(frozen=True)
class Foreign:
    """What a file holds, without its wrappers.

    tensors   key -> tensor, in the family's own names: no `state_dict`, `module.` or
              `first_stage_model.` around them
    settings  what the file itself, the YAML or JSON beside it and the caller say, each over the one
              before; {} if nobody says anything. Those of the tokenizer are on the top level,
              too, wherever in a project's settings they lie
    origin    what messages call it
    notes     what the opener chose where there was a choice, such as running means over the
              weights themselves: a sentence each, for the report, ahead of the plan's own
    unread    a sentence on settings that lie beside the file and were not read; "" without any
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    origin: str
    notes: tuple[str, ...] = ()
    unread: str = ""


@dataclass(frozen=True)
class Plan:
    """Which of our models a checkpoint is.

    architecture   a name of `AUTOENCODERS`
    settings       of its constructor: the networks, the codebook, and how the source trains it
    weights        our key -> tensor; each key that the model has but training state
    preprocess     how the source brings pictures to pixels
    dropped        key of the source -> why it is not needed
    discriminator  key of our PatchGAN -> tensor, for fine-tuning; {} where the file has none
    notes          quirks of the source, and what was done about each: a sentence each
    family         whose title and licence the report carries; None: of the family that plans.
                   For checkpoints that settings alone tell from those of that family
    """

    architecture: str
    settings: dict[str, Any]
    weights: dict[str, Tensor]
    preprocess: Preprocess
    dropped: dict[str, str] = field(default_factory=dict)
    discriminator: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    family: str | None = None


class Family(NamedTuple):
    """Checkpoints of one layout.

    title       what people call them
    licence     of the published weights, as far as it is known: a note for people
    recognises  keys and tensors of a file -> whether they are of this family. Of no other, too:
                a test passes the tensors of each family to all
    plan        -> `Plan`; `ConfigError` naming what neither keys, shapes nor settings tell,
                `LoadError` naming the first key or shape that does not fit
    """

    title: str
    licence: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    plan: Callable[[Foreign], Plan]


FAMILIES: Registry[Family] = Registry("checkpoint family", __name__)

"""A family whose checkpoints are our smallest model under other names, and files of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from checkpoints.pickles import save
from torch import Tensor

from vqtok.autoencoders import AutoencoderVQ
from vqtok.checkpoints import FAMILIES, Family, Foreign, Plan
from vqtok.checkpoints.keys import asked
from vqtok.preprocess import Preprocess

MARK = "toy."
CONFIG = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 8, 16),
    "norm_num_groups": 4,
    "latent_channels": 4,
    "num_vq_embeddings": 64,
    "mid_block_add_attention": False,
}
STATE = ("quantize.count", "quantize.steps")


def model(seed: int = 0) -> AutoencoderVQ:
    """What a toy checkpoint becomes."""
    return tiny.model(seed)


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """A toy checkpoint."""
    own = model(seed).state_dict()
    named = {MARK + key: tensor.clone() for key, tensor in own.items() if key not in STATE}
    return {**named, "judge.weight": torch.ones(3), "loss.weight": torch.ones(1)}


def file(place: Path, seed: int = 0, size: int | None = 16, kind: str = "zip") -> Path:
    """One in a file, which tells its size, or does not."""
    told = {} if size is None else {"hparams": {"size": size}}
    return save({"state_dict": tensors(seed), **told}, place, kind)


def plan(foreign: Foreign) -> Plan:
    """As a family's is."""
    size = asked(foreign.settings, "size", "the side of its pictures", foreign.origin)
    theirs = foreign.tensors
    weights = {k.removeprefix(MARK): t for k, t in theirs.items() if k.startswith(MARK)}
    return Plan(
        architecture="cnn",
        settings={**CONFIG, "quantizer_args": {"start": "kaiming"}},
        weights=weights,
        preprocess=Preprocess(policy="center", size=size, stride=4),
        dropped={"loss.weight": "a part of the loss"},
        discriminator={"blocks.0.weight": theirs["judge.weight"]}
        if "judge.weight" in theirs
        else {},
        notes=("Toys are small.",),
    )


def recognises(found: Mapping[str, Tensor]) -> bool:
    """By the names."""
    return any(key.startswith(MARK) for key in found)


def family(**changes: Any) -> Family:
    """The family, not registered."""
    return Family("a toy", "a toy's licence", recognises, plan)._replace(**changes)


def register(patch: pytest.MonkeyPatch, name: str = "toy", **changes: Any) -> None:
    """For one test."""
    assert name not in FAMILIES  # which loads them
    patch.setitem(FAMILIES._parts, name, family(**changes))

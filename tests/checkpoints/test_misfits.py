"""Tensors of any shape under a family's keys: always an error of ours, never Python's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
import torch

from vqtok.checkpoints import FAMILIES, Foreign
from vqtok.checkpoints.building import build, recognise
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import VqtokError

# What settings are read from, in the words of all families.
READ = (
    "conv_inweight",
    "conv_outweight",
    "conv1weight",
    "embed",
    "position",
    "qkv",
    "time_conv",
)
MISFITS = (torch.tensor(1.0), torch.ones(3), torch.ones(2, 0))


def chosen(keys: list[str]) -> Iterator[str]:
    """One of each kind of key that shapes are read of: a running mean, where there are such."""
    for word in READ:
        found = [key for key in keys if word in key.replace(".", "")]
        yield from sorted(found, key=lambda key: not key.startswith("model_ema."))[:1]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_only_our_errors(name: str) -> None:
    tensors, settings = import_module(f"checkpoints.samples.{name}").sample()
    refused = 0
    for key in dict.fromkeys(chosen(list(tensors))):
        for misfit in MISFITS:
            found = Foreign({**tensors, key: misfit}, hoisted(settings), "x.ckpt")
            try:
                recognise(found)
                build(found, name)
            except VqtokError:
                refused += 1
    assert refused >= len(MISFITS)

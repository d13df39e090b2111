"""Whether graphs hold their model's codebook: every row, whichever codes pictures use."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.autoencoders import AutoencoderBase
from vqtok.export.settings import ExportSettings
from vqtok.export.tables import settle

__all__ = ["wrong_constants"]

Array = npt.NDArray[Any]
# What the quantizer's constants are called in graphs, and what its tables' names end with.
PREFIX = "model.quantize."
TABLES = {"encoder": "search.codes", "decoder": ".codes"}


def wrong_constants(
    model: AutoencoderBase, graphs: Iterable[Path], settings: ExportSettings
) -> Iterator[str]:
    """Of graphs encoder.onnx, ... each one's first constant that is not the quantizer's, in words.

    Bit by bit: ids hang on them, and pictures that are compared use but some of the codes.
    """
    own = {
        "encoder": _constants(model, settings.search_block),
        "decoder": _constants(model, None),
    }
    for graph in graphs:
        half = "encoder" if graph.stem.endswith("encoder") else "decoder"
        fault = _fault(_stored(graph), own[half], TABLES[half])
        if fault is not None:
            yield f"{graph.name} {fault}"


def _constants(model: AutoencoderBase, block: int | None) -> dict[str, Array]:
    """As graphs are to hold them; those that two modules share under both names."""
    quantizer = copy.deepcopy(model.quantize).cpu()
    settle(quantizer, block)
    parts = (
        *quantizer.named_buffers(remove_duplicate=False),
        *quantizer.named_parameters(remove_duplicate=False),
    )
    return {f"{PREFIX}{name}": value.detach().numpy() for name, value in parts}


def _stored(graph: Path) -> dict[str, Array]:
    import onnx
    from onnx import numpy_helper

    found = onnx.load(graph).graph.initializer
    return {one.name: numpy_helper.to_array(one) for one in found if one.name.startswith(PREFIX)}


def _fault(stored: Mapping[str, Array], own: Mapping[str, Array], tables: str) -> str | None:
    for name, value in stored.items():
        if name in own and not _same(value, own[name]):
            return f"holds another {name} than the model{_first(value, own[name])}"
    for name, value in own.items():
        if name.endswith(tables) and not any(_same(value, one) for one in stored.values()):
            return f"does not hold the model's {name}"
    return None


def _same(one: Array, other: Array) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )


def _first(one: Array, other: Array) -> str:
    """Where they differ."""
    if one.shape != other.shape:
        return f": it has the shape {one.shape}, and not {other.shape}"
    if one.dtype != other.dtype:
        return f": it is {one.dtype}, and not {other.dtype}"
    bits = one.reshape(-1).view(np.uint8).reshape(one.size, -1)
    differs = (bits != other.reshape(-1).view(np.uint8).reshape(bits.shape)).any(1)
    place = np.unravel_index(differs.argmax(), one.shape)
    return (
        f": the first of {int(differs.sum()):,} numbers that differ is at {tuple(map(int, place))}"
    )

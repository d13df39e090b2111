"""What each graph says of itself, so that it can be told from another without the files beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from vqtok.export.runtime.folder import SCHEMA
from vqtok.export.settings import ExportSettings
from vqtok.strides import by
from vqtok.tokenizer import VisualTokenizer
from vqtok.traits import Traits

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ROLES", "Role", "describe", "metadata_of", "sizes_of", "traits_of"]

Role = Literal["encoder", "decoder", "picture_encoder", "picture_decoder"]
ROLES: tuple[Role, ...] = get_args(Role)


def metadata_of(
    tok: VisualTokenizer, role: Role, settings: ExportSettings, size: Sequence[int] | None
) -> dict[str, str]:
    """The `metadata_props` of one graph, all strings; JSON where they have a structure.

    size  the only one that the graph takes, in pixels; None where it takes many
    """
    encodes = role.endswith("encoder")
    traits = traits_of(tok)
    sizes = sizes_of(traits, size, alone=role.startswith("picture"))
    return {
        "vqtok.schema": SCHEMA,
        "vqtok.role": role,
        "vqtok.fingerprint": _json(tok.fingerprint.to_dict()),
        "vqtok.codebook": tok.fingerprint.codebook,
        "vqtok.preprocess": _json(tok.settings.to_config()),
        "vqtok.precision": settings.precision if encodes else settings.decoder_precision,
        "vqtok.traits": _json(traits.to_dict()),
        "vqtok.stride": _json(traits.stride),
        "vqtok.sizes": f"{sizes}; batches are of 1 or more",
    }


def describe(model: ir.Model, role: Role, metadata: dict[str, str]) -> None:
    """What a graph says of itself, in the place of what the exporter says: source lines, paths."""
    graph = model.graph
    model.producer_name, model.producer_version = "vqtok", None
    graph.name = role
    values = (value for node in graph for value in node.outputs)
    for part in (model, graph, *graph, *values, *graph.inputs, *graph.initializers.values()):
        part.metadata_props.clear()
        part.doc_string = None
    model.metadata_props.update(metadata)


def traits_of(tok: VisualTokenizer) -> Traits:
    """What a codec of its graphs says: of codes of several scales they take one size alone."""
    traits = tok.codec.traits
    if not traits.is_multiscale:
        return traits
    sides = tok.settings.sides
    return replace(traits, only_size=sides, only_grid=traits.latent_grid_of(sides))


def sizes_of(traits: Traits, size: Sequence[int] | None, *, alone: bool = False) -> str:
    """In words, which sizes a graph takes.

    alone  of a clip its first frame, by itself
    """
    *frames, height, width = traits.stride
    if size is not None:
        return f"pixels are {by(size)}"
    sides = f"sides are multiples of {height}"
    if height != width:
        sides = f"heights are multiples of {height} and widths of {width}"
    if not frames:
        return sides
    if alone:
        return f"one frame; {sides}"
    if traits.causal:
        return f"frames are 1 + a multiple of {frames[0]}, at least {1 + frames[0]}; {sides}"
    return f"frames are a multiple of {frames[0]}; {sides}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

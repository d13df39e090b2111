"""A tokenizer's encoder and decoder as ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from vqtok.architectures.cnn import NoDecoder
from vqtok.autoencoders import AutoencoderBase
from vqtok.errors import ConfigError
from vqtok.export.guards import guard_ids, guard_sides
from vqtok.export.metadata import Role, describe, metadata_of
from vqtok.export.networks import halves
from vqtok.export.settings import ExportSettings
from vqtok.export.tracing import Tensors, trace
from vqtok.extras import require
from vqtok.tokenizer import VisualTokenizer

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LARGE", "file_of", "write_graphs"]

# Bytes of weights above which they lie in a file of their own: one of ONNX holds less than 2 GB.
LARGE = 1_500_000_000
PIXEL_AXES = "frames", "height", "width"
CODE_AXES = "grid_frames", "grid_height", "grid_width"
# Of what a graph is traced with: tokens along time, height and width. A length of one would be
# taken for a constant.
TOKENS = (2, 3, 4)
BATCH = 2


class _Example(NamedTuple):
    """A batch of pictures or clips that a graph is traced with."""

    size: tuple[int, ...]  # in pixels
    free: tuple[bool, ...]  # which of these a graph leaves open
    roles: tuple[Role, Role]

    @property
    def only(self) -> tuple[int, ...] | None:
        """The size, where it is the only one."""
        return None if any(self.free) else self.size


def file_of(role: Role) -> str:
    """What the file of a graph is called."""
    return f"{role}.onnx"


def write_graphs(
    tok: VisualTokenizer,
    folder: Path,
    settings: ExportSettings,
    progress: Callable[[str], object] | None = None,
) -> list[Path]:
    """Writes encoder.onnx and decoder.onnx into a folder, and returns the graphs' paths.

    Causal models of clips have picture_encoder.onnx and picture_decoder.onnx, too, for a frame
    alone; a model without a decoder has no decoder.onnx. Weights above `LARGE` lie beside a graph
    as NAME.onnx.data. The tokenizer's model stays as it is.

    progress  is called with each file's name, before it is made
    """
    require("onnx", "vqtok[export]", "ONNX graphs are checked")
    require("onnxscript", "vqtok[export]", "ONNX graphs are made")
    model = tok.model
    examples = list(_examples(tok))
    modules = halves(model, settings)
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for example in examples:
        for role, module in zip(example.roles, modules, strict=True):
            if role == "decoder" and isinstance(model.decoder, NoDecoder):
                continue
            if progress is not None:
                progress(file_of(role))
            graph = _traced(model, module, role, example, settings)
            said = metadata_of(tok, role, settings, example.only)
            _guard(graph, model, role, example, settings, said["vqtok.sizes"].rpartition("; ")[0])
            describe(graph, role, said)
            written.append(folder / file_of(role))
            _save(graph, written[-1])
    return written


def _examples(tok: VisualTokenizer) -> Iterator[_Example]:
    model = tok.model
    plain: tuple[Role, Role] = "encoder", "decoder"
    axes = len(model.stride)
    if model.only_size is not None:
        yield _Example(model.only_size, (False,) * axes, plain)
    elif model.is_multiscale:
        yield _Example(_one_size(tok), (False,) * axes, plain)
    else:
        yield _Example(model.size_of(TOKENS[-axes:]), (True,) * axes, plain)
    if model.causal:
        alone = model.size_of((1, *TOKENS[1:]))
        yield _Example(alone, (False, True, True), ("picture_encoder", "picture_decoder"))


def _one_size(tok: VisualTokenizer) -> tuple[int, int]:
    """The size of all pictures, where codes do not tell their grid."""
    if tok.settings.size is None:
        raise ConfigError(
            "codes of several scales do not tell their grid, so their graphs are for pictures of "
            f"one size, and the policy {tok.settings.policy!r} keeps each picture's own: export "
            "tok.with_preprocess(policy='center', size=...)"
        )
    return tok.settings.sides


def _traced(
    model: AutoencoderBase,
    module: nn.Module,
    role: Role,
    example: _Example,
    settings: ExportSettings,
) -> ir.Model:
    pixels = _axes(example, PIXEL_AXES, 1 if settings.pixels == "uint8" else 2)
    codes = _axes(example, CODE_AXES, 1)
    if role.endswith("encoder"):
        given = Tensors("pixels", _pixels(example, settings), pixels)
        made = "codes", codes
    else:
        given = Tensors("codes", _codes(model, example, settings), codes)
        made = "pixels", pixels
    try:
        return trace(module, given, *made, settings.opset)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(
            f"torch {torch.__version__} makes no {file_of(role)} of {type(model).__name__} with "
            f"the quantizer {model.config.quantizer!r}: {reason}"
        ) from error


def _guard(
    graph: ir.Model,
    model: AutoencoderBase,
    role: Role,
    example: _Example,
    settings: ExportSettings,
    sizes: str,
) -> None:
    """Lets a graph fail by what it is not for."""
    if role.endswith("decoder"):
        guard_ids(graph, model.quantize.codebook_size)
        return
    sides = list(zip(model.stride, example.free, strict=True))
    steps = [step if free else 1 for step, free in sides]
    extra = [int(model.causal and free and axis == 0) for axis, (_, free) in enumerate(sides)]
    before, after = ((1,), (1,)) if settings.pixels == "uint8" else ((1, 1), ())
    guard_sides(
        graph, [*before, *steps, *after], [0] * len(before) + extra + [0] * len(after), sizes
    )


def _pixels(example: _Example, settings: ExportSettings) -> Tensor:
    if settings.pixels == "uint8":
        return torch.zeros(BATCH, *example.size, 3, dtype=torch.uint8)
    return torch.zeros(BATCH, 3, *example.size)


def _codes(model: AutoencoderBase, example: _Example, settings: ExportSettings) -> Tensor:
    shape = model.quantize.codes_shape(model.grid_of(example.size))
    return torch.zeros(BATCH, *shape, dtype=getattr(torch, settings.codes))


def _axes(example: _Example, names: tuple[str, ...], first: int) -> dict[int, str]:
    """The open axes of pixels or codes, whose sides begin at the axis `first`."""
    own = zip(names[-len(example.size) :], example.free, strict=True)
    return {0: "batch", **{first + axis: name for axis, (name, free) in enumerate(own) if free}}


def _save(model: ir.Model, path: Path) -> None:
    import onnx
    import onnx_ir as ir

    held = (value.const_value for value in model.graph.initializers.values())
    size = sum(tensor.nbytes for tensor in held if tensor is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if size > LARGE else None)
    onnx.checker.check_model(path, full_check=True)

"""From a module to an ONNX model, by torch's exporter; what it says on its way is kept quiet."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from vqtok.export.operators import translations

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Tensors", "trace"]


class Tensors(NamedTuple):
    """What a graph takes."""

    name: str
    example: Tensor
    axes: dict[int, str]  # by number, the names of those that may have any length


def trace(
    module: nn.Module, given: Tensors, name: str, axes: dict[int, str], opset: int
) -> ir.Model:
    """A module of one tensor in and one out as an ONNX model.

    name, axes  of what it makes; the exporter knows of its axes how they follow from those given
    """
    import onnx_ir as ir

    with torch.no_grad(), _quiet():
        program: Any = torch.onnx.export(
            module,
            (given.example,),
            input_names=[given.name],
            output_names=[name],
            dynamic_shapes=(given.axes,),
            opset_version=opset,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    model: ir.Model = program.model
    _say_sizes(model)
    (made,) = model.graph.outputs
    made.shape = ir.Shape([axes.get(axis, side) for axis, side in enumerate(made.shape or ())])
    return model


def _say_sizes(model: ir.Model) -> None:
    """Resizes by whole factors are to a size: of factors, which are floats, ONNX Runtime's symbolic
    shape inference makes sides that it cannot compare with others.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    for node in list(model.graph):
        factors = (
            node.inputs[2].const_value if node.op_type == "Resize" and node.inputs[2] else None
        )
        if factors is None or (factors.numpy() % 1).any():
            continue
        whole = ir.tensor(factors.numpy().astype("int64"), name=f"{node.name}_factors")
        nodes = [
            ir.node("Shape", node.inputs[:1], name=f"{node.name}_from"),
            ir.node("Constant", [], {"value": whole}, name=f"{node.name}_factors"),
        ]
        given = [each.outputs[0] for each in nodes]
        nodes.append(ir.node("Mul", given, name=f"{node.name}_to"))
        node.resize_inputs(4)
        node.replace_input_with(2, None)
        node.replace_input_with(3, nodes[-1].outputs[0])
        model.graph.insert_before(node, nodes)
    # Of the factors nothing may be left: ONNX Runtime warns of a constant that nobody reads.
    RemoveUnusedNodesPass()(model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's own code is warned of, and the operators of torchvision it misses."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
        log.addFilter(_not_torchvision)
        try:
            yield
        finally:
            log.removeFilter(_not_torchvision)


def _not_torchvision(record: logging.LogRecord) -> bool:
    return "torchvision is not installed" not in record.getMessage()

"""What a graph takes that it should not would pass in silence: here nodes whose names say so fail.

They cost a few operators on shapes, and on ids. ONNX Runtime itself refuses other sizes where a
graph is for one alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["guard_ids", "guard_sides"]


def guard_sides(model: ir.Model, steps: Sequence[int], extra: Sequence[int], sizes: str) -> None:
    """Pixels, whose every side is to be `extra` and a multiple of a step, or running fails.

    They are put into the largest shape of such sides, which has fewer numbers where it is not
    theirs. All else in the graph follows from this shape, which also tells who infers shapes that
    halves are whole.

    steps, extra  of all axes of the pixels; (1, 0) where any length goes
    sizes         in words, the node's name
    """
    if set(steps) == {1}:
        return
    nodes = _Nodes(model)
    shape = nodes.add("Shape", nodes.given)
    step, more = (np.array(each, np.int64) for each in (steps, extra))
    if more.any():
        shape = nodes.add("Sub", shape, nodes.constant(more))
    shape = nodes.add("Mul", nodes.add("Div", shape, nodes.constant(step)), nodes.constant(step))
    if more.any():
        shape = nodes.add("Add", shape, nodes.constant(more))
    nodes.put(nodes.add("Reshape", nodes.given, shape, name=_name(sizes)))


def guard_ids(model: ir.Model, count: int) -> None:
    """Ids below 0 or not below `count` are looked up in a table that has not got them.

    On CPUs that fails, whatever a quantizer would make of them: tables take negative ids from their
    end, and arithmetic makes something of any number. On CUDA look-ups give zeros and never fail.
    """
    nodes = _Nodes(model)
    kind = nodes.given.dtype
    if kind is None:
        raise TypeError("ids have a type")
    least, end = (nodes.constant(np.array(limit, kind.numpy())) for limit in (0, count))
    low = nodes.add("Less", nodes.given, least)
    high = nodes.add("GreaterOrEqual", nodes.given, end)
    wrong = nodes.add("Cast", nodes.add("Or", low, high), to=kind)
    zero = nodes.constant(np.zeros(1, kind.numpy()))
    found = nodes.add("Gather", zero, wrong, name=_name(f"ids lie in 0 to {count - 1}"))
    nodes.put(nodes.add("Add", nodes.given, found))


class _Nodes:
    """Nodes between the one thing that a graph is given, and what reads it."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        (self.given,) = model.graph.inputs
        self.nodes: list[ir.Node] = []

    def constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """An initializer."""
        import onnx_ir as ir

        name = f"guard_{len(self.graph.initializers)}"
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
        self.graph.initializers[name] = value
        return value

    def add(self, kind: str, *inputs: ir.Value, name: str | None = None, **settings: Any) -> Any:
        """A node, and what it makes."""
        import onnx_ir as ir

        node = ir.node(kind, inputs, settings or None, name=name or f"guard_{len(self.nodes)}")
        node.outputs[0].name = f"{node.name}_made"
        self.nodes.append(node)
        return node.outputs[0]

    def put(self, made: ir.Value) -> None:
        """What these nodes make in the place of what the graph is given."""
        for node, index in list(self.given.uses()):
            if node not in self.nodes:
                node.replace_input_with(index, made)
        self.graph.insert_before(self.graph[0], self.nodes)


def _name(words: str) -> str:
    """Words as the name of a node."""
    return re.sub(r"\W+", "_", words.replace("+", "plus"))

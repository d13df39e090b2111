"""Operators that torch's exporter does not know, in ONNX's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["translations"]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch's exporter. ONNX shifts unsigned numbers alone, and codes are signed."""
    import onnxscript

    op: Any = onnxscript.opset18

    def power(places: Any) -> Any:
        return op.Pow(op.Constant(value_int=2), places)

    def left(x: Any, places: Any) -> Any:
        return op.Mul(x, power(places))

    def right(x: Any, places: Any) -> Any:
        return op.Div(x, power(places))  # the same for all but negative numbers

    shifts = torch.ops.aten
    return {shifts.__lshift__.Tensor: left, shifts.__rshift__.Tensor: right}

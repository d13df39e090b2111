"""Arrays and numbers of numpy in a pickle, without numpy's own functions, which trust it."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["NUMPY", "Array", "DType"]

# Booleans, whole numbers, floats.
KINDS = "biuf"


class DType:
    """What stands for numpy.dtype."""

    def __init__(self, text: Any = "", *rest: Any) -> None:
        self.text = text if isinstance(text, str) else ""
        self.order: Literal["=", "<", ">"] = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]

    def numpy(self) -> np.dtype[Any] | None:
        """The type, or None where it is none of numbers."""
        try:
            found = np.dtype(self.text).newbyteorder(self.order)
        except (TypeError, ValueError):
            return None
        return found if found.kind in KINDS else None


class Array:
    """What stands for an array, or a number with its type."""

    def __init__(self, *given: Any) -> None:
        self.values: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            self.values = _values(dtype, data, shape, "F" if fortran else "C")

    def number(self) -> int | float | bool | None:
        """The one number that it holds, or None."""
        if self.values is None or self.values.size != 1:
            return None
        found: int | float | bool = self.values.item()
        return found

    def load(self) -> Tensor:
        """As a tensor, of an array that holds numbers."""
        values = np.zeros(0) if self.values is None else self.values
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))


def _values(dtype: Any, data: Any, shape: Any, order: Any) -> np.ndarray[Any, Any] | None:
    kind = dtype.numpy() if isinstance(dtype, DType) else None
    raw = data.encode("latin1") if isinstance(data, str) else data
    sides = shape if isinstance(shape, tuple) else (shape,)
    if kind is None or not isinstance(raw, bytes | bytearray):
        return None
    if not all(type(side) is int and side >= 0 for side in sides):
        return None
    if math.prod(sides) * kind.itemsize != len(raw):
        return None
    return np.frombuffer(bytes(raw), kind).reshape(sides, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any = b"") -> Array:
    made = Array()
    made.values = _values(dtype, data, (), "C")
    return made


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    made = Array()
    made.values = _values(dtype, data, shape, order)
    return made


NUMPY: dict[str, Any] = {"numpy.dtype": DType, "numpy.ndarray": Array}
for _core in ("numpy.core", "numpy._core"):
    NUMPY[f"{_core}.multiarray._reconstruct"] = Array
    NUMPY[f"{_core}.multiarray.scalar"] = _scalar
    NUMPY[f"{_core}.numeric._frombuffer"] = _from_buffer

"""One graph, from an array to an array: on the CPU without copies, on a GPU in buffers kept there.

The caller says what comes out, so that nothing is made, or moved, that is thrown away.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vqtok.errors import LoadError
from vqtok.export.runtime.library import onnxruntime

__all__ = ["DeviceGraph", "Graph", "HostGraph"]

Array = npt.NDArray[Any]
# Sizes of batches whose buffers stay on a GPU; and whose runs are recorded, where that is wanted.
KEPT, CAPTURED = 4, 16
# So many batches in a row that are so many times smaller than the largest give its memory back.
PATIENCE, SMALL = 16, 4
UNCAPTURED = "-1"  # onnxruntime's word for a run that is not recorded


class Graph(Protocol):
    """A graph of one input and one output."""

    def run(self, given: Array, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """What comes of an array, of that shape and type."""
        ...


class HostGraph:
    """A graph on the CPU. It reads what is given where that lies, and writes into the result.

    The session keeps the memory that its largest batch took, for the next one: taking it anew each
    time costs a third of the whole run. It is given back when much smaller ones keep coming.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = _names(session)
        self._largest = self._small = 0

    def run(self, given: Array, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """See `Graph.run`; in any number of threads."""
        value = onnxruntime().OrtValue.ortvalue_from_numpy
        result = np.empty(shape, dtype)
        source = np.ascontiguousarray(given)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._names[0], value(source))
        binding.bind_ortvalue_output(self._names[1], value(result))
        self._session.run_with_iobinding(binding, self._options(source.nbytes))
        return result

    def _options(self, size: int) -> Any:
        """Of a run of so many bytes; threads may disturb each other's count, which does no harm."""
        if size * SMALL >= self._largest:
            self._largest, self._small = max(size, self._largest), 0
            return None
        self._small += 1
        if self._small < PATIENCE:
            return None
        self._largest, self._small = size, 0
        options = onnxruntime().RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


class _Buffers(NamedTuple):
    """Where the batches of one size lie on a GPU, and the number of what was recorded of them."""

    given: Any
    result: Any
    binding: Any
    options: Any


class DeviceGraph:
    """A graph on a GPU. What is given goes there at once; from pinned memory the GPU fetches it.

    captures  records the run of each of the first sizes, and plays it again: what is started a
              kernel at a time otherwise is started as one
    """

    def __init__(self, session: Any, index: int, *, captures: bool) -> None:
        self._session = session
        self._index = index
        self._captures = captures
        self._names = _names(session)
        self._buffers: OrderedDict[tuple[Any, ...], _Buffers] = OrderedDict()
        self._lock = threading.Lock()  # for buffers hold one batch
        self._captured = 0

    def run(self, given: Array, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """See `Graph.run`; one thread at a time, others wait."""
        source = np.ascontiguousarray(given)
        with self._lock:
            held = self._held(source, shape, np.dtype(dtype))
            held.given.update_inplace(source)
            held.binding.synchronize_inputs()
            self._session.run_with_iobinding(held.binding, held.options)
            held.binding.synchronize_outputs()
            found: Array = held.result.numpy()
            return found

    def _held(self, given: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Buffers:
        key = given.shape, given.dtype, shape, dtype
        if key in self._buffers:
            self._buffers.move_to_end(key)
            return self._buffers[key]
        number = UNCAPTURED
        if self._captures and self._captured < CAPTURED:
            number = str(self._captured)
            self._captured += 1
        self._forget()
        self._buffers[key] = self._made(given, shape, dtype, number)
        return self._buffers[key]

    def _forget(self) -> None:
        """Makes room; buffers that were recorded have to stay where they are."""
        free = [key for key, held in self._buffers.items() if not _is_captured(held)]
        for key in free[: max(0, len(free) - KEPT + 1)]:
            del self._buffers[key]

    def _made(
        self, given: Array, shape: tuple[int, ...], dtype: np.dtype[Any], number: str
    ) -> _Buffers:
        library = onnxruntime()
        place = library.OrtValue.ortvalue_from_shape_and_type
        source = place(given.shape, given.dtype.type, "cuda", self._index)
        result = place(shape, dtype.type, "cuda", self._index)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._names[0], source)
        binding.bind_ortvalue_output(self._names[1], result)
        options = None
        if self._captures:
            options = library.RunOptions()
            options.add_run_config_entry("gpu_graph_id", number)
        return _Buffers(source, result, binding, options)


def _is_captured(held: _Buffers) -> bool:
    options = held.options
    return options is not None and options.get_run_config_entry("gpu_graph_id") != UNCAPTURED


def _names(session: Any) -> tuple[str, str]:
    """What the input and the output of a graph are called."""
    given, found = session.get_inputs(), session.get_outputs()
    if len(given) != 1 or len(found) != 1:
        raise LoadError(
            f"a graph of a tokenizer has one input and one output; this one has {len(given)} and "
            f"{len(found)}"
        )
    return given[0].name, found[0].name

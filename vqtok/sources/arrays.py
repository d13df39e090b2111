"""Pictures in .npy files, memory-mapped; of URLs, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import LoadError
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import (
    OPEN_FILES,
    PerThread,
    Ranges,
    Tree,
    check_unique,
    each_of,
    ends_with,
    threads_for,
)
from vqtok.sources.remote import Place, Remote

__all__ = ["Arrays"]

HEADER = 1 << 12
READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@SOURCES.register("arrays")
class Arrays:
    """The rows of each uint8 array (N, H, W, 3); a key is the file's name and the row's number."""

    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    is_video = False

    def __init__(self, trees: Sequence[Tree]) -> None:
        found = [
            (tree.at(name), name.rpartition(".")[0])
            for tree in trees
            for name in tree.names
            if ends_with(name, self.suffixes)
        ]
        self._paths = [path for path, _ in found]
        self._open, self._ranges = PerThread(OPEN_FILES), Ranges(self._paths)
        check_unique([name for _, name in found], lambda index: f"'{self._paths[index]}'")
        self._rows = list(each_of(_rows, self._paths, threads_for(self._paths)))
        counts = [rows.number for rows in self._rows]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.keys = [
            f"{name}/{row:08d}"
            for (_, name), count in zip(found, counts, strict=True)
            for row in range(count)
        ]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is an array (H, W, 3)."""
        index = range(len(self))[index]
        file = int(np.searchsorted(self._starts, index, "right")) - 1
        row = index - int(self._starts[file])
        return Sample(self.keys[index], self._pixels(file, row), {})

    def _pixels(self, file: int, row: int) -> npt.NDArray[np.uint8]:
        path, rows = self._paths[file], self._rows[file]
        if not isinstance(path, Remote):
            return np.array(self._open.get(file, lambda: _mapped(path))[row])
        size = int(np.prod(rows.shape))
        found = self._ranges.read(file, rows.offset + row * size, size)
        return np.frombuffer(bytearray(found), np.uint8).reshape(rows.shape)


class _Rows(NamedTuple):
    """The pictures in a file: how many, of what shape, and behind how many bytes they begin."""

    number: int
    shape: tuple[int, ...]
    offset: int


def _rows(path: Place) -> _Rows:
    if not isinstance(path, Remote):
        mapped = _mapped(path)
        return _Rows(len(mapped), mapped.shape[1:], 0)
    try:
        with path.open(buffering=HEADER) as file:
            read = READERS[np.lib.format.read_magic(file)]
            shape, by_column, dtype = read(file)
            _check(dtype, shape, path)
            if by_column:
                raise LoadError(f"'{path}' is stored by columns, so its pictures are in no place")
            return _Rows(shape[0], shape[1:], file.tell())
    except (KeyError, ValueError) as error:
        raise LoadError(f"'{path}' is not an array that can be read: {error}") from error


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise LoadError(f"'{path}' is not an array that can be mapped: {error}") from error
    _check(array.dtype, array.shape, path)
    pixels: npt.NDArray[np.uint8] = array
    return pixels


def _check(dtype: np.dtype[Any], shape: tuple[int, ...], path: Place) -> None:
    if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3:
        raise LoadError(f"'{path}' holds {dtype} of shape {shape}; pictures are uint8 (N, H, W, 3)")

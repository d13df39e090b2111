"""Pictures in .npy files, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vqtok.errors import LoadError
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import OPEN_FILES, PerThread, Tree, check_unique, ends_with

__all__ = ["Arrays"]


@SOURCES.register("arrays")
class Arrays:
    """The rows of each uint8 array (N, H, W, 3); a key is the file's name and the row's number."""

    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    is_video = False

    def __init__(self, trees: Sequence[Tree]) -> None:
        found = [
            (tree.root / name, name.rpartition(".")[0])
            for tree in trees
            for name in tree.names
            if ends_with(name, self.suffixes)
        ]
        self._paths = [path for path, _ in found]
        self._open = PerThread(OPEN_FILES)
        check_unique([name for _, name in found], lambda index: f"'{self._paths[index]}'")
        counts = [len(_mapped(path)) for path in self._paths]
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
        path = self._paths[file]
        pixels = self._open.get(file, lambda: _mapped(path))[index - self._starts[file]]
        return Sample(self.keys[index], np.array(pixels), {})


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise LoadError(f"'{path}' is not an array that can be mapped: {error}") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise LoadError(
            f"'{path}' holds {array.dtype} of shape {array.shape}; pictures are uint8 (N, H, W, 3)"
        )
    pixels: npt.NDArray[np.uint8] = array
    return pixels

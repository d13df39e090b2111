"""Memory that processes share without a name: nothing is left behind, however they end."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from multiprocessing import reduction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PAGE", "Shared", "inherited"]

PAGE = mmap.PAGESIZE


class Shared:
    """`size` bytes, all zero at first, that only what is touched of takes memory.

    Forked children share it as they are; spawned ones when it is handed to `Process(args=...)`.
    """

    _descriptor = -1

    def __init__(self, size: int) -> None:
        self._open(_anonymous_file(), size, grow=True)

    def _open(self, descriptor: int, size: int, grow: bool = False) -> None:
        if grow:
            os.ftruncate(descriptor, size)
        self.size = size
        self._descriptor = descriptor
        self.memory = mmap.mmap(descriptor, size)

    def array(
        self, dtype: npt.DTypeLike, shape: int | tuple[int, ...], offset: int = 0
    ) -> npt.NDArray[Any]:
        """A writable view of the memory from byte `offset` on."""
        return np.ndarray(shape, dtype, self.memory, offset)

    def floats(self, offset: int, count: int) -> memoryview[float]:
        """The memory as doubles: a single number is read and written much faster than in arrays."""
        return memoryview(self.memory)[offset : offset + 8 * count].cast("d")

    def punch(self, offset: int, length: int) -> None:
        """Free the memory of whole pages, which are zero afterwards; without effect off Linux."""
        remove = getattr(mmap, "MADV_REMOVE", None)
        if remove is not None:
            self.memory.madvise(remove, offset, length)

    def close(self) -> None:
        """Drop the file; views that are still held keep the memory itself."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        # At the end of a process the system closes all files, and others may have before.
        if not sys.is_finalizing():
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """For a child that is being spawned; what else a subclass holds, it makes again."""
        return {"descriptor": inherited(self._descriptor), "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(state["descriptor"].detach(), state["size"])


def inherited(descriptor: int) -> Any:
    """A file descriptor as it can be pickled for a child that is being spawned."""
    return reduction.DupFd(descriptor)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vqtok", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp(prefix="vqtok-")
    os.unlink(path)
    return descriptor

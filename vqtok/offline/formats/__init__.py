"""What the files of a shard look like: one module a format.

How to add a format
-------------------
One new file here, with one class, whose instance is registered under the format's name:

    class Kind:
        def check(self, plan: Plan) -> None: ...
        def write(self, rows: Rows, plan: Plan, stem: str) -> dict[str, bytes]: ...
        def read(
            self, store: Store, names: Sequence[str], plan: Plan, held: Shared | None = None
        ) -> ShardReader: ...

    FORMATS.register("kind")(Kind())

Bytes are a function of the rows, the plan and the versions of the libraries that write them: no
time, host or random name. A shard may have no rows. What `write` returns is named below shards/,
and each name begins with the stem; `read` is given the names that the shard's record holds, where
a sha256 may stand between the stem and the first dot, so that files are told apart by their
endings. Rows come back as they were. tests/offline/formats/test_formats.py runs every format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from vqtok.errors import LoadError
from vqtok.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from vqtok.offline.plan import Plan
    from vqtok.offline.rows import Rows
    from vqtok.sources.shared import Shared

__all__ = [
    "FORMATS",
    "Files",
    "Format",
    "ShardReader",
    "blocks_of",
    "file_bytes",
    "held_bytes",
    "only",
]

SHARDS = "shards/"


class Files(Protocol):
    """What reading needs of a `Store`."""

    def local(self, name: str) -> Path | None:
        """Where the file lies on this machine; None where it does not."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """The file, to be read from any place."""
        ...

    def get(self, name: str) -> bytes:
        """All of the file."""
        ...


class ShardReader(Protocol):
    """The rows of one shard. It may hold open files, and stays in the process that opened it.

    Several threads may read from one at once.

    blocks  where each run of rows begins that is best read at once, and the number of all rows
    nbytes  of memory that it holds by itself; what is mapped from files does not count
    """

    @property
    def blocks(self) -> Sequence[int]: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> Rows:
        """Those from `start` up to `stop`, without reading many others."""
        ...

    def heads(self) -> tuple[list[str], list[str]]:
        """Keys and views of all rows, without their codes."""
        ...


class Format(Protocol):
    """How rows become files, and back."""

    def check(self, plan: Plan) -> None:
        """`ConfigError` for a plan whose rows it cannot hold; names formats that can."""
        ...

    def write(self, rows: Rows, plan: Plan, stem: str) -> dict[str, bytes]:
        """The files of a shard, by their names below shards/."""
        ...

    def read(
        self, store: Files, names: Sequence[str], plan: Plan, held: Shared | None = None
    ) -> ShardReader:
        """A shard that was written under these names.

        held  keeps what is read at once, of all shards of a set, by the file's name and a number;
              None: the reader keeps what it needs for the next rows
        """
        ...


FORMATS: Registry[Format] = Registry("format", "vqtok.offline.formats")


def only(names: Sequence[str], ending: str) -> str:
    """The one name with this ending, below the data set's folder."""
    found = [name for name in names if name.endswith(ending)]
    if len(found) != 1:
        raise LoadError(
            f"a shard of this format has one file that ends in '{ending}'; its record names "
            f"{', '.join(names) or 'none'}"
        )
    return SHARDS + found[0]


def file_bytes(store: Files, name: str) -> npt.NDArray[np.uint8]:
    """A file as bytes: mapped into memory where it is local, else read."""
    path = store.local(name)
    if path is None:
        return np.frombuffer(store.get(name), np.uint8)
    if path.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, mode="r")


def held_bytes(array: npt.NDArray[Any] | None) -> int:
    """Bytes of memory that an array keeps: none where it is mapped from a file."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return 0
        if array.base is None:
            return array.nbytes
        array = array.base
    return 0 if array is None else len(array)


def blocks_of(rows: int, size: int) -> list[int]:
    """Where blocks of `size` rows begin, and where the last ends."""
    return [*range(0, rows, size), rows]

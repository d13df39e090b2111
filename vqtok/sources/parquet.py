"""Pictures in tables: parquet files, and what `datasets` saved to disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from vqtok.errors import LoadError, VqtokError
from vqtok.extras import require
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import (
    OPEN_FILES,
    PerThread,
    Tree,
    check_unique,
    each_of,
    ends_with,
    threads_for,
)
from vqtok.sources.remote import Place, Remote, contents
from vqtok.sources.shared import Shared

__all__ = ["Parquet"]

KEYS = ("key", "__key__")
HELD = 1 << 28  # bytes of row groups that a process keeps


Group = tuple[int, int]


class _Table(NamedTuple):
    """An open file."""

    schema: Any
    groups: list[Group]  # of rows that are read at once: how many, how many bytes
    read: Callable[..., Any]  # (number of a group, columns=None) -> its rows as an arrow table


@SOURCES.register("parquet")
class Parquet:
    """The rows of all parquet files, or of the .arrow files that `Dataset.save_to_disk` wrote.

    The data is the one column that holds pictures: Hugging Face's {bytes, path}, else bytes. All
    others are carried along. A row's key stands in the column `key` or `__key__`; without these it
    is the file's name and the row's number. Reading a row reads its whole row group, and the last
    groups are kept, 256 MB in each process: threads that go through a set in order read each group
    once together, and a larger set that is read in random order wants small groups of about a
    hundred rows, or .arrow files, which are memory-mapped.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".arrow")
    is_video = False

    def __init__(self, trees: Sequence[Tree]) -> None:
        names = [(tree, name) for tree in trees for name in tree.names if self._is_data(name)]
        self._paths = [tree.at(name) for tree, name in names]
        self._open, self._held = PerThread(OPEN_FILES), Shared(HELD)
        self._column = ""
        self.keys: list[str] = []
        groups = [np.zeros((0, 4), np.int64)]
        files = [(path, name) for path, (_, name) in zip(self._paths, names, strict=True)]
        looks = each_of(_looked_at, files, threads_for(self._paths))
        for file, (column, keys, sizes) in enumerate(looks):
            self._use(column, file)
            self.keys += keys
            rows = [(file, number, *group) for number, group in enumerate(sizes)]
            groups.append(np.array(rows, np.int64).reshape(-1, 4))
        self._groups = np.concatenate(groups)
        self._starts = np.concatenate([[0], np.cumsum(self._groups[:, 2])])
        check_unique(self.keys, lambda index: f"in '{self._paths[self._place(index)[0]]}'")

    @classmethod
    def _is_data(cls, name: str) -> bool:
        """`datasets` keeps results of `map` beside its tables."""
        cache = name.rpartition("/")[2].startswith("cache-") and name.endswith(".arrow")
        return ends_with(name, cls.suffixes) and not cache

    def _table(self, file: int) -> _Table:
        path = self._paths[file]
        table: _Table = self._open.get(file, lambda: _opened(path))
        return table

    def _use(self, column: str, file: int) -> None:
        """Takes the column that holds pictures, which must be the same in every file."""
        if self._column not in ("", column):
            raise LoadError(
                f"'{self._paths[file]}' has its pictures in the column {column!r}, but "
                f"'{self._paths[0]}' in {self._column!r}"
            )
        self._column = column

    def _place(self, index: int) -> tuple[int, int, int, int]:
        """(file, group, bytes of that group, row in it)."""
        at = int(np.searchsorted(self._starts, index, "right")) - 1
        file, number, _, size = self._groups[at].tolist()
        return file, number, size, index - int(self._starts[at])

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is the bytes of a picture file, or the path of one that the table names."""
        index = range(len(self))[index]
        file, number, size, row = self._place(index)
        path = self._paths[file]
        read = self._table(file).read
        with _telling(f"'{path}' cannot be read"):
            group = self._held.get((file, number), lambda: read(number), size)
            columns = group.slice(row, 1).to_pylist()[0]
        data = _data(columns.pop(self._column), path, self.keys[index])
        return Sample(self.keys[index], data, columns)

    def labels(self) -> Iterator[Any]:
        """The label of each sample, None where it has none."""
        for file, number, rows, _ in self._groups.tolist():
            if "label" not in self._table(file).schema.names:
                yield from [None] * rows
                continue
            with _telling(f"'{self._paths[file]}' cannot be read"):
                found = self._table(file).read(number, columns=["label"]).column(0).to_pylist()
            yield from found


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """One sentence for what pyarrow raises, all of which is of these two."""
    try:
        yield
    except VqtokError:
        raise
    except (OSError, ValueError) as error:
        raise LoadError(f"{what}: {error}") from error


def _looked_at(named: tuple[Place, str]) -> tuple[str, list[str], list[Group]]:
    """(column of pictures, keys, groups) of a file, closed again: there may be thousands."""
    path, name = named
    table = _opened(path)
    keys = _keys(table, name.rpartition(".")[0], path)
    return _picture_column(table.schema, path), keys, table.groups


def _opened(path: Place) -> _Table:
    pyarrow = require("pyarrow", "vqtok[train]", f"'{path}' is read")
    with _telling(f"'{path}' is not a table that can be read"):
        if not ends_with(path.name, (".arrow",)):
            return _parquet(path)
        if isinstance(path, Remote):
            raise LoadError(f"'{path}' can only be mapped into memory; download it first")
        return _stream(path, pyarrow)


def _parquet(path: Place) -> _Table:
    parquet = require("pyarrow.parquet", "vqtok[train]", f"'{path}' is read")
    file = parquet.ParquetFile(path.open() if isinstance(path, Remote) else path)
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]

    def read(number: int, columns: list[str] | None = None) -> Any:
        return file.read_row_group(number, columns, use_threads=False)

    return _Table(file.schema_arrow, [(g.num_rows, g.total_byte_size) for g in groups], read)


def _stream(path: Path, pyarrow: Any) -> _Table:
    """Batches of a memory-mapped file; those that are kept take no memory."""
    reader = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path)))
    batches = list(reader)

    def read(number: int, columns: list[str] | None = None) -> Any:
        table = pyarrow.Table.from_batches([batches[number]])
        return table.select(columns) if columns else table

    return _Table(reader.schema, [(batch.num_rows, 0) for batch in batches], read)


def _picture_column(schema: Any, path: Place) -> str:
    """The column that says it holds pictures, else the one like Hugging Face's, else the bytes."""
    said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = said.get("info", {}).get("features", {})
    images = [n for n in schema.names if (features.get(n) or {}).get("_type") == "Image"]
    structs = [field.name for field in schema if str(field.type).startswith("struct<bytes: ")]
    blobs = [field.name for field in schema if str(field.type) in ("binary", "large_binary")]
    found = images or structs or blobs
    if len(found) == 1:
        return str(found[0])
    number = f"{len(found)} columns of pictures" if found else "no column of pictures"
    raise LoadError(
        f"'{path}' has {number} among {', '.join(schema.names)}; one is needed, of file bytes or "
        "of {bytes, path}"
    )


def _keys(table: _Table, name: str, path: Place) -> list[str]:
    column = next((each for each in KEYS if each in table.schema.names), None)
    if column is None:
        return [f"{name}/{row:08d}" for row in range(sum(rows for rows, _ in table.groups))]
    keys = [
        key
        for number in range(len(table.groups))
        for key in table.read(number, columns=[column]).column(0).to_pylist()
    ]
    for row, key in enumerate(keys):
        if not isinstance(key, str):
            raise LoadError(f"row {row} of '{path}' has the {column} {key!r}; keys are text")
    return keys


def _data(value: Any, table: Place, key: str) -> bytes | Path:
    if isinstance(value, dict):
        if value["bytes"] is None and value.get("path"):
            return contents(table.parent / str(value["path"]))
        value = value["bytes"]
    if value is None:
        raise LoadError(f"the sample {key!r} in '{table}' has no picture")
    return bytes(value)

"""Parquet shards: one file, codes as bytes. Read as it is by pyarrow, `datasets` and others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any

from vqtok.extras import require
from vqtok.offline.formats import FORMATS, Files, only
from vqtok.offline.rows import Rows
from vqtok.offline.tables import (
    code_shapes,
    dtype_of,
    payload,
    payload_of,
    row_group_size,
    rows_of,
    shapes_of,
    stored_shapes,
    table_of,
    to_parquet,
)
from vqtok.sources.shared import Shared

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = ["Parquet", "Reader", "open_parquet"]

# Rows that are turned into Python at once.
BLOCK = 64


class Parquet:
    """00000.parquet, with the columns `codes` and `latents`."""

    def check(self, plan: Plan) -> None:
        """It holds all plans."""

    def write(self, rows: Rows, plan: Plan, stem: str) -> dict[str, bytes]:
        """See `Format`."""
        payloads = {}
        if plan.with_codes:
            payloads["codes"] = payload(rows.codes, dtype_of(plan))
        if plan.with_latents:
            payloads["latents"] = payload(rows.latents, "<f2")
            payloads["latents_shape"] = shapes_of(rows.latents)
        table = table_of(rows, plan, payloads)
        return {f"{stem}.parquet": to_parquet(table, row_group_size(rows.codes, rows.latents))}

    def read(
        self, store: Files, names: Sequence[str], plan: Plan, held: Shared | None = None
    ) -> Reader:
        """See `Format`."""
        return Reader(store, only(names, ".parquet"), plan, held)


class Reader:
    """Rows of one file, by row group."""

    def __init__(self, store: Files, name: str, plan: Plan, held: Shared | None = None) -> None:
        self._plan, self._name = plan, name
        self._file = open_parquet(store, name)
        meta = self._file.metadata
        groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
        self._starts: list[int] = [0, *accumulate(group.num_rows for group in groups)]
        ends = zip(self._starts, self._starts[1:], strict=False)
        inner = [row for start, end in ends for row in range(start, end, BLOCK)]
        self.blocks = [*inner, self._starts[-1]]
        self.nbytes: int = meta.serialized_size
        # The next rows are mostly in the same group.
        self._held = Shared(1) if held is None else held
        self._lock = Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, start: int, stop: int) -> Rows:
        """See `ShardReader`."""
        parts = []
        while start < stop:
            group = bisect_right(self._starts, start) - 1
            first, end = self._starts[group], min(self._starts[group + 1], stop)
            parts.append(self._rows(self._table(group).slice(start - first, end - start)))
            start = end
        return Rows.concat(parts)

    def heads(self) -> tuple[list[str], list[str]]:
        """See `ShardReader`."""
        with self._lock:
            table = self._file.read(columns=["key", "view"], use_threads=False)
        return table["key"].to_pylist(), table["view"].to_pylist()

    def _table(self, group: int) -> Any:
        name = self._name, group
        return self._held.get(name, lambda: self._group(group), lambda table: table.nbytes)

    def _group(self, number: int) -> Any:
        # Threads must not meet in a file; those who read other shards go on.
        with self._lock:
            return self._file.read_row_group(number, use_threads=False).combine_chunks()

    def _rows(self, table: Any) -> Rows:
        codes = latents = None
        if self._plan.with_codes:
            shapes = code_shapes(table, self._plan.tokenizer.depth)
            codes = payload_of(table["codes"], dtype_of(self._plan), shapes)
        if self._plan.with_latents:
            shapes = stored_shapes(table["latents_shape"])
            latents = payload_of(table["latents"], "<f2", shapes)
        return rows_of(table, codes, latents)


def open_parquet(store: Files, name: str) -> Any:
    """The file, mapped into memory where it is local."""
    pq = require("pyarrow.parquet", "vqtok[offline]", "data sets are read")
    path = store.local(name)
    if path is None:
        return pq.ParquetFile(store.open(name))
    return pq.ParquetFile(path, memory_map=True)


FORMATS.register("parquet")(Parquet())

"""Flat shards: codes one after the other without anything between them, and a table of the rows.

The `.bin` is what trainers of language models map into memory; the table says which codes are
whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import LoadError
from vqtok.offline.formats import FORMATS, Files, file_bytes, held_bytes, only
from vqtok.offline.indexed import INDEX, IndexedReader
from vqtok.offline.rows import Rows
from vqtok.offline.tables import (
    arrow,
    code_shapes,
    cut,
    dtype_of,
    row_group_size,
    rows_of,
    shapes_of,
    stored_shapes,
    table_of,
    to_parquet,
)

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.sources.shared import Shared

__all__ = ["Bin", "Reader"]

CODES, LATENTS = ".bin", ".latents.bin"


class Bin:
    """00000.bin and 00000.rows.parquet; latents in 00000.latents.bin."""

    def check(self, plan: Plan) -> None:
        """It holds all plans."""

    def write(self, rows: Rows, plan: Plan, stem: str) -> dict[str, bytes]:
        """See `Format`."""
        files: dict[str, bytes] = {}
        columns: dict[str, Any] = {}
        if plan.with_codes:
            files[stem + CODES] = _flat(rows.codes, dtype_of(plan))
            columns |= _extents("", rows.codes)
        if plan.with_latents:
            files[stem + LATENTS] = _flat(rows.latents, "<f2")
            columns |= _extents("latents_", rows.latents)
            columns["latents_shape"] = shapes_of(rows.latents)
        table = table_of(rows, plan, columns)
        return {**files, stem + INDEX: to_parquet(table, row_group_size())}

    def read(
        self, store: Files, names: Sequence[str], plan: Plan, held: Shared | None = None
    ) -> Reader:
        """See `Format`."""
        return Reader(store, names, plan)


class Reader(IndexedReader):
    """Rows of one shard."""

    def __init__(self, store: Files, names: Sequence[str], plan: Plan) -> None:
        super().__init__(store, names)
        self._codes = self._latents = None
        self._depth = plan.tokenizer.depth
        if plan.with_codes:
            plain = [name for name in names if not name.endswith(LATENTS)]
            self._codes = file_bytes(store, only(plain, CODES)).view(dtype_of(plan))
        if plan.with_latents:
            self._latents = file_bytes(store, only(names, LATENTS)).view("<f2")
        arrays = held_bytes(self._codes) + held_bytes(self._latents)
        self.nbytes: int = self._table.nbytes + arrays

    def rows(self, start: int, stop: int) -> Rows:
        """See `ShardReader`."""
        table = self._table.slice(start, stop - start)
        codes = latents = None
        if len(table) and self._codes is not None:
            codes = _cut(self._codes, table, "", code_shapes(table, self._depth))
        if len(table) and self._latents is not None:
            shapes = stored_shapes(table["latents_shape"])
            latents = _cut(self._latents, table, "latents_", shapes)
        return rows_of(table, codes, latents)


def _flat(arrays: Any, dtype: str) -> bytes:
    parts = [] if arrays is None else arrays
    return b"".join(np.ascontiguousarray(part, dtype).tobytes() for part in parts)


def _extents(prefix: str, arrays: Any) -> dict[str, Any]:
    """Where each row's values begin in the file, and how many they are."""
    counts = np.array([part.size for part in ([] if arrays is None else arrays)], np.int64)
    pa = arrow()
    return {
        f"{prefix}offset": pa.array(np.cumsum(counts) - counts, pa.int64()),
        f"{prefix}count": pa.array(counts, pa.int64()),
    }


def _cut(flat: npt.NDArray[Any], table: Any, prefix: str, shapes: npt.NDArray[np.int32]) -> Any:
    offsets = table[f"{prefix}offset"].to_numpy()
    end = offsets[-1] + table[f"{prefix}count"][-1].as_py()
    if end > len(flat):
        raise LoadError(f"a file of a shard ends after {len(flat)} values; its rows take {end}")
    ends = np.append(offsets, end) - offsets[0]
    return cut(flat[offsets[0] : end], ends, shapes)


FORMATS.register("bin")(Bin())

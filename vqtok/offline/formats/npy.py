"""NumPy shards: one array of all codes, which `np.load(..., mmap_mode="r")` maps into memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, InputError, LoadError
from vqtok.offline.formats import FORMATS, Files, held_bytes, only
from vqtok.offline.indexed import INDEX, IndexedReader
from vqtok.offline.plan import clip_frames
from vqtok.offline.rows import Rows
from vqtok.offline.tables import dtype_of, row_group_size, rows_of, table_of, to_parquet
from vqtok.sources import SOURCES

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.sources.shared import Shared

__all__ = ["Npy", "Reader"]

CODES, LATENTS = ".codes.npy", ".latents.npy"
OTHERS = "parquet, webdataset and bin hold several"
OPEN = ("native", "extend")


class Npy:
    """00000.codes.npy [n, *grid(, Q)] and 00000.rows.parquet; latents in 00000.latents.npy."""

    def check(self, plan: Plan) -> None:
        """All grids have to be of one shape."""
        why = ""
        if len(plan.buckets) > 1:
            why = f"{len(plan.buckets)} buckets"
        elif not plan.buckets and plan.preprocess.get("policy") in OPEN:
            why = f"the policy {plan.preprocess['policy']!r}"
        elif clip_frames(plan.source.clips) is None and _may_be_videos(plan):
            why = "whole videos" if plan.source.clips is None else "whole scenes"
        if why:
            raise ConfigError(
                f"the format 'npy' has one shape for all grids, and {why} give several; {OTHERS}"
            )

    def write(self, rows: Rows, plan: Plan, stem: str) -> dict[str, bytes]:
        """See `Format`."""
        files = {}
        if plan.with_codes:
            files[stem + CODES] = _npy(rows.codes, dtype_of(plan))
        if plan.with_latents:
            files[stem + LATENTS] = _npy(rows.latents, "<f2")
        table = table_of(rows, plan)
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
        self._codes = self._array(store, names, CODES) if plan.with_codes else None
        self._latents = self._array(store, names, LATENTS) if plan.with_latents else None
        arrays = held_bytes(self._codes) + held_bytes(self._latents)
        self.nbytes: int = self._table.nbytes + arrays

    def rows(self, start: int, stop: int) -> Rows:
        """See `ShardReader`."""
        table = self._table.slice(start, stop - start)
        arrays = [
            None if array is None or not len(table) else array[start:stop]
            for array in (self._codes, self._latents)
        ]
        return rows_of(table, *arrays)

    def _array(self, store: Files, names: Sequence[str], ending: str) -> npt.NDArray[Any]:
        name = only(names, ending)
        array = _load(store, name)
        if len(array) != len(self._table):
            raise LoadError(f"'{name}' has {len(array)} rows, and its table {len(self._table)}")
        return array


def _may_be_videos(plan: Plan) -> bool:
    """Whether samples have lengths: a tokenizer of clips takes pictures, too, one frame each."""
    kind = plan.source.kind
    # Of lists, only the rows tell it.
    pictures = kind in SOURCES and getattr(SOURCES[kind], "is_video", True) is False
    return plan.tokenizer.is_video and not pictures


def _load(store: Files, name: str) -> npt.NDArray[Any]:
    path = store.local(name)
    if path is None:
        array: npt.NDArray[Any] = np.load(io.BytesIO(store.get(name)))
        return array
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    # A file without values cannot be mapped; numpy reads it then.
    return mapped


def _npy(arrays: Any, dtype: str) -> bytes:
    """An array of all rows; of no rows it has the shape (0,), as no grid is known."""
    if isinstance(arrays, list):
        shapes = sorted({array.shape for array in arrays})
        raise InputError(
            f"the format 'npy' has one shape for all grids; got {', '.join(map(str, shapes))}. "
            f"{OTHERS.capitalize()}"
        )
    whole = np.zeros(0, dtype) if arrays is None else np.ascontiguousarray(arrays, dtype)
    out = io.BytesIO()
    np.lib.format.write_array(out, whole, version=(1, 0))
    return out.getvalue()


FORMATS.register("npy")(Npy())

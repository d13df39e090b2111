"""Rows as Arrow tables and Parquet files, and back. Importing this brings no torch.

A file's bytes are a function of its rows, the plan and the versions of pyarrow and of the zstd in
it: the footer names pyarrow's version, and another zstd may compress otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError, LoadError
from vqtok.extras import require
from vqtok.offline.rows import Rows

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = [
    "arrow",
    "code_shapes",
    "cut",
    "dtype_of",
    "payload",
    "payload_of",
    "row_group_size",
    "rows_of",
    "shapes_of",
    "stored_shapes",
    "table_of",
    "to_parquet",
]

Array = npt.NDArray[Any]

# What a row group holds before compression: little enough that one row out of it is read soon,
# and so much that the rows' share of a group's own header stays small.
GROUP_BYTES = 1 << 20
SMALLEST_GROUP, LARGEST_GROUP = 16, 4096
# About what a row has beside codes and latents.
OTHER_BYTES = 128
# Few different values, so that a dictionary of them is smaller. Others are never repeated.
DICTIONARIES = (
    "view",
    "box.list.element",
    "size.list.element",
    "grid.list.element",
    "scales.list.element.list.element",
    "latents_shape.list.element",
    "text",
)


def arrow() -> Any:
    """pyarrow, or an error that says how to install it."""
    return require("pyarrow", "vqtok[offline]", "data sets are written and read")


def table_of(rows: Rows, plan: Plan, payloads: dict[str, Any] | None = None) -> Any:
    """Everything but codes and latents, with `payloads` as further columns; one schema a plan."""
    pa = arrow()
    whole = pa.list_(pa.int32())
    columns = {
        "key": pa.array(rows.keys, pa.string()),
        "view": pa.array(rows.views, pa.string()),
        "box": _lists(rows.boxes),
        "flip": pa.array(rows.flips, pa.bool_()),
        "size": _lists(rows.sizes),
        "grid": _lists(rows.grids),
        "scales": pa.array([scales or None for scales in rows.scales], pa.list_(whole)),
        **_labels(rows, plan),
        "text": pa.array(rows.texts, pa.string()),
        "columns": pa.array([text or None for text in rows.columns], pa.string()),
        **(payloads or {}),
    }
    table = pa.table(columns)
    return table.replace_schema_metadata(
        {
            "vqtok": plan.version,
            "plan": plan.hash,
            "dtype": plan.dtype,
            "codebook_size": str(plan.tokenizer.codebook_size),
            "depth": str(plan.tokenizer.depth),
        }
    )


def rows_of(table: Any, codes: Any = None, latents: Any = None) -> Rows:
    """What `table_of` was given, with the codes and latents of the same rows."""
    scales = table["scales"]
    blank: list[Any] = [None] * len(table)
    return Rows(
        keys=table["key"].to_pylist(),
        views=table["view"].to_pylist(),
        boxes=_matrix(table["box"], 4),
        flips=table["flip"].to_numpy(),
        sizes=_matrix(table["size"], 2),
        grids=_matrix(table["grid"], 2),
        scales=[
            tuple((height, width) for height, width in each or ())
            for each in (blank if scales.null_count == len(table) else scales.to_pylist())
        ],
        codes=codes,
        latents=latents,
        labels=table["label"].to_pylist() if "label" in table.column_names else blank,
        texts=table["text"].to_pylist(),
        columns=[text or "" for text in table["columns"].to_pylist()],
    )


def payload(arrays: Array | Sequence[Array] | None, dtype: str) -> Any:
    """Arrays -> an Arrow array of their bytes, little-endian, in C order; none -> an empty one."""
    pa = arrow()
    arrays = [] if arrays is None else arrays
    if isinstance(arrays, np.ndarray):
        data: Any = np.ascontiguousarray(arrays, dtype)
        ends = np.arange(len(data) + 1) * (data.nbytes // max(1, len(data)))
    else:
        data = b"".join(np.ascontiguousarray(array, dtype).tobytes() for array in arrays)
        ends = np.cumsum([0] + [array.size * np.dtype(dtype).itemsize for array in arrays])
    buffers = [None, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)


def payload_of(column: Any, dtype: str, shapes: npt.NDArray[np.int32]) -> Any:
    """A column of bytes -> its arrays: one where all are of one shape, else a list of them."""
    chunk = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if len(chunk) == 0:
        return None
    wide = arrow().types.is_large_binary(chunk.type)
    places = np.frombuffer(chunk.buffers()[1], np.int64 if wide else np.int32)
    places = places[chunk.offset : chunk.offset + len(chunk) + 1]
    data = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)[places[0] : places[-1]].view(dtype)
    return cut(data, (places - places[0]) // np.dtype(dtype).itemsize, shapes)


def cut(data: Array, ends: Array, shapes: npt.NDArray[np.int32]) -> Any:
    """Flat data -> arrays, the n-th of the shape shapes[n] and between ends[n] and ends[n + 1]."""
    counts = np.diff(ends)
    other = np.flatnonzero(counts != shapes.prod(1, dtype=np.int64))
    if len(other):
        shape = tuple(shapes[other[0]].tolist())
        raise LoadError(
            f"row {other[0]} of these has the shape {shape} and {counts[other[0]]} values"
        )
    if (shapes == shapes[0]).all():
        return data.reshape(len(shapes), *shapes[0].tolist())
    bounds = zip(ends[:-1], ends[1:], shapes.tolist(), strict=True)
    return [data[start:stop].reshape(shape) for start, stop, shape in bounds]


def shapes_of(arrays: Array | Sequence[Array] | None) -> Any:
    """The shape of each, as an Arrow array."""
    pa = arrow()
    shapes = [list(array.shape) for array in ([] if arrays is None else arrays)]
    return pa.array(shapes, pa.list_(pa.int32()))


def stored_shapes(column: Any, *tail: int) -> npt.NDArray[np.int32]:
    """What `shapes_of` wrote, and grids: (n, axes), with more axes behind."""
    shapes = _matrix(column, 0)
    return np.hstack([shapes, np.tile(np.array(tail, np.int32), (len(shapes), 1))])


def code_shapes(table: Any, depth: int) -> npt.NDArray[np.int32]:
    """The shape of each row's codes: its grid, and an axis of the codes that a token has."""
    return stored_shapes(table["grid"], *([depth] if depth else []))


def to_parquet(table: Any, group: int) -> bytes:
    """A file of row groups of `group` rows; equal tables are equal bytes."""
    pq = require("pyarrow.parquet", "vqtok[offline]", "data sets are written and read")
    out = arrow().BufferOutputStream()
    writer = pq.ParquetWriter(
        out,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=list(DICTIONARIES),
        write_statistics=False,
        # Would hold a copy of the schema in Arrow's own words, which change with its version.
        store_schema=False,
    )
    with writer:
        # `datasets` fails on a row group without rows, and takes a file without row groups.
        if len(table):
            writer.write_table(table, row_group_size=group)
        writer.add_key_value_metadata(table.schema.metadata)
    data: bytes = out.getvalue().to_pybytes()
    return data


def row_group_size(*payloads: Array | Sequence[Array] | None) -> int:
    """Rows a group, by how much of these a row has on average."""
    found = [arrays for arrays in payloads if arrays is not None]
    total = sum(array.nbytes for arrays in found for array in arrays)
    rows = max((len(arrays) for arrays in found), default=0)
    size = GROUP_BYTES * rows // (total + OTHER_BYTES * rows) if total else LARGEST_GROUP
    return min(max(size, SMALLEST_GROUP), LARGEST_GROUP)


def dtype_of(plan: Plan) -> str:
    """Of codes in files: little-endian."""
    return "<u2" if plan.dtype == "uint16" else "<u4"


# --- inside -------------------------------------------------------------------------------------


def _labels(rows: Rows, plan: Plan) -> dict[str, Any]:
    pa = arrow()
    if plan.label == "none":
        return {}
    kind = pa.int64() if plan.label == "int" else pa.string()
    try:
        return {"label": pa.array(rows.labels, kind)}
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise InputError(f"labels of this plan are of the kind {plan.label!r}: {error}") from None


def _lists(matrix: npt.NDArray[np.int32]) -> Any:
    pa = arrow()
    rows, width = matrix.shape
    ends = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(ends, pa.array(matrix.reshape(-1), pa.int32()))


def _matrix(column: Any, width: int) -> npt.NDArray[np.int32]:
    values = column.combine_chunks().flatten().to_numpy()
    shape = (len(column), -1) if len(column) else (0, width)
    found: npt.NDArray[np.int32] = values.reshape(shape)
    return found

"""Little-endian numbers, and headers that say which: application/octet-stream."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from vqtok.serve.wire import headers as names
from vqtok.serve.wire.errors import Failure, WireError
from vqtok.serve.wire.sheets import Array, Expect, Head, Row, Sheet, stacked

__all__ = ["DTYPES", "array_of", "headed", "read", "write"]

DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
WHY = "raw numbers do not tell their shape"


def read(headers: Mapping[str, str], body: bytes, expect: Expect) -> Sheet:
    """Of any dtype in `DTYPES`; the shape is that of one picture, or has one axis more."""
    dims = names.parse_dims(names.needed(headers, names.SHAPE, WHY), names.SHAPE)
    known = {names.DTYPE: expect.dtype, **headers} if expect.dtype else headers
    name = names.needed(known, names.DTYPE, "raw numbers do not tell their dtype").strip()
    if name not in DTYPES:
        raise WireError(
            "bad_header", f"{names.DTYPE} is one of {', '.join(DTYPES)}; got {name!r:.60}"
        )
    return headed(array_of(body, np.dtype(name), dims), headers, expect)


def array_of(body: bytes, dtype: np.dtype[np.generic], dims: tuple[int, ...]) -> Array:
    """A body of exactly so many little-endian numbers; a view, which cannot be written to."""
    size = math.prod(dims) * dtype.itemsize
    if len(body) != size:
        raise WireError(
            "truncated" if len(body) < size else "wrong_shape",
            f"{dtype.name} numbers of the shape {','.join(map(str, dims))} take {size} bytes; got "
            f"{len(body)}",
        )
    return np.frombuffer(body, dtype.newbyteorder("<")).reshape(dims)


def headed(array: Array, headers: Mapping[str, str], expect: Expect) -> Sheet:
    """An array, and what headers say of its rows."""
    part = expect.part_of(array.dtype)
    arrays = expect.cut(part, array)
    count = len(arrays)
    scales = names.parse_scales(headers.get(names.SCALES, ""), names.SCALES)
    sizes = _sizes(headers, count)
    head = Head(codebook_size=names.parse_number(headers, names.CODEBOOK_SIZE))
    rows = [Row({part: one}, size, scales) for one, size in zip(arrays, sizes, strict=True)]
    return Sheet(_with_failures(rows, headers, expect), head)


def _sizes(headers: Mapping[str, str], count: int) -> list[tuple[int, ...]]:
    if not headers.get(names.SIZES):
        return [()] * count
    sizes = names.parse_sizes(headers[names.SIZES], names.SIZES)
    if len(sizes) not in (1, count):
        raise WireError(
            "bad_header",
            f"{names.SIZES} is one size, or one for each picture; got {len(sizes)} for {count}",
        )
    return sizes * count if len(sizes) == 1 else sizes


def _with_failures(
    rows: list[Row], headers: Mapping[str, str], expect: Expect
) -> list[Row | Failure]:
    """An answer's headers tell which pictures failed; why, they do not."""
    if not headers.get(names.STATUS_OF_EACH):
        return list(rows)
    status = names.parse_status(headers[names.STATUS_OF_EACH])
    if status.count(200) != len(rows):
        raise WireError(
            "bad_header",
            f"{names.STATUS_OF_EACH} names {status.count(200)} good pictures, and the body holds "
            f"{len(rows)}",
        )
    left = iter(rows)
    return [next(left) if one == 200 else expect.failed(_unexplained(one)) for one in status]


def _unexplained(status: int) -> Failure:
    return Failure(
        status,
        "failed",
        f"it failed with status {status}; application/json and application/safetensors say why",
    )


def write(sheet: Sheet, main: str) -> bytes:
    """The part `main` of every good row; `sheets.described` makes the headers."""
    array = stacked(sheet, main, "application/octet-stream")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()

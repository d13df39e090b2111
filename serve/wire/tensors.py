"""Named arrays and what is said of them: application/safetensors.

Tensors: "codes", "latents", "pixels", the ones there are, each (N, ...) where all rows have one
shape, else "codes.0", "codes.1", ...; "sizes" (N, 2|3). N counts the pictures that came to
something. Metadata, all text: schema, fingerprint, codebook, codebook_size, depth, scales, status,
and errors, JSON of what the others failed of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from vqtok.errors import did_you_mean
from vqtok.serve.wire import headers as names
from vqtok.serve.wire.errors import Failure, WireError
from vqtok.serve.wire.sheets import PARTS, SCHEMA, Array, Expect, Head, Row, Sheet

__all__ = ["arrays_of", "plain", "read", "said", "write"]

LONGEST = 1 << 20  # bytes of a header: thousands of tensors
# What the format calls a dtype; bfloat16 is the upper half of a float32.
DTYPES = {
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": "<u2",
}


def read(headers: Mapping[str, str], body: bytes, expect: Expect) -> Sheet:
    """The whole of what `write` wrote, or a file with one of the tensors that are expected."""
    tensors, said = arrays_of(body)
    parts = {part: _rows(part, tensors, expect) for part in expect.axes}
    found = {part: rows for part, rows in parts.items() if rows is not None}
    if not found:
        given = ", ".join(map(repr, list(tensors)[:8])) or "none"
        raise WireError(
            "missing_part",
            f"the safetensors file needs a tensor called {' or '.join(expect.axes)}; got {given}. "
            f"{did_you_mean(next(iter(tensors), ''), expect.axes)}",
        )
    counts = {len(rows) for rows in found.values()}
    if len(counts) > 1:
        raise WireError(
            "wrong_shape", f"{' and '.join(found)} are of different numbers of pictures: {counts}"
        )
    count = counts.pop()
    sizes = _sizes(tensors.get("sizes"), count)
    scales = _scales(said.get("scales", ""), count)
    rows = [
        Row({part: rows[index] for part, rows in found.items()}, sizes[index], scales[index])
        for index in range(count)
    ]
    return Sheet(_with_failures(rows, said, expect), _head(said))


def arrays_of(body: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Its tensors and its metadata; safetensors' own reader checks every number in the header."""
    if int.from_bytes(body[:8], "little") > LONGEST:
        raise WireError(
            "bad_safetensors",
            f"the body is no safetensors file, or its header takes more than {LONGEST} bytes",
        )
    try:
        stored = deserialize(body)  # type: ignore[no-untyped-call]
        return {name: _array(name, tensor) for name, tensor in stored}, _metadata(body)
    except (SafetensorError, ValueError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError("bad_safetensors", f"the body is no safetensors file: {error}") from None


def _array(name: str, tensor: Mapping[str, Any]) -> Array:
    if tensor["dtype"] not in DTYPES:
        raise WireError(
            "bad_safetensors",
            f"the tensor {name!r:.60} is {tensor['dtype']}; {', '.join(DTYPES)} are taken",
        )
    flat = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]])
    if tensor["dtype"] == "BF16":
        flat = (flat.astype("<u4") << 16).view("<f4")
    return flat.reshape(tensor["shape"])


def _metadata(body: bytes) -> dict[str, str]:
    header = orjson.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    return {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}


def _rows(part: str, tensors: Mapping[str, Array], expect: Expect) -> list[Array] | None:
    if part in tensors:
        return expect.cut(part, tensors[part])
    count = sum(re.fullmatch(rf"{part}\.\d+", name, re.A) is not None for name in tensors)
    if not count:
        return None
    missing = next((i for i in range(count) if f"{part}.{i}" not in tensors), None)
    if missing is not None:
        raise WireError(
            "missing_part",
            f"there are {count} tensors called {part}.N, but no {part}.{missing}; count from 0",
        )
    return [tensors[f"{part}.{index}"] for index in range(count)]


def _sizes(array: Array | None, count: int) -> list[tuple[int, ...]]:
    if array is None:
        return [()] * count
    if array.dtype.kind not in "iu" or array.shape not in ((count, 2), (count, 3)):
        raise WireError(
            "wrong_shape",
            f"the tensor 'sizes' is whole numbers ({count}, 2), heights and widths, or "
            f"({count}, 3), of clips the frames before them; got {array.dtype} {array.shape}",
        )
    return [tuple(size) for size in array.tolist()]


def _scales(text: str, count: int) -> list[tuple[tuple[int, int], ...]]:
    """Of all rows at once, or of each with semicolons between."""
    if not text:
        return [()] * count
    given = text.split(";")
    if len(given) not in (1, count):
        raise WireError("bad_header", f"scales is given for {len(given)} pictures of {count}")
    found = [names.parse_scales(one, "scales") for one in given]
    return found * count if len(found) == 1 else found


def _head(said: Mapping[str, str]) -> Head:
    numbers = {}
    for key in ("codebook_size", "depth"):
        text = said.get(key, "0")
        if not re.fullmatch(r"\d{1,10}", text, re.A):
            raise WireError("bad_safetensors", f"{key} is a whole number; got {text!r:.60}")
        numbers[key] = int(text)
    fingerprint = names.parse_print(said["fingerprint"]) if said.get("fingerprint") else None
    codebook = said.get("codebook") or (fingerprint.codebook if fingerprint else "")
    return Head(fingerprint, codebook, **numbers)


def _with_failures(rows: list[Row], said: Mapping[str, str], expect: Expect) -> list[Row | Failure]:
    if not said.get("errors"):
        return list(rows)
    try:
        failed = {int(i): Failure(*_typed(error)) for i, *error in orjson.loads(said["errors"])}
    except (TypeError, ValueError, OverflowError):
        failed = {-1: Failure(500, "", "")}
    total = len(rows) + len(failed)
    if any(not 0 <= index < total for index in failed):
        raise WireError(
            "bad_safetensors",
            f"errors is JSON: a list of [index, status, code, message]; got {said['errors']!r:.80}",
        )
    left = iter(rows)
    return [
        expect.failed(failed[index]) if index in failed else next(left) for index in range(total)
    ]


def _typed(error: list[Any]) -> tuple[int, str, str]:
    status, code, message = error
    if not isinstance(status, int) or not 400 <= status <= 599:
        raise ValueError
    return status, str(code), str(message)


def write(sheet: Sheet, main: str) -> bytes:
    """Every part of the good rows, whichever is `main`."""
    good = sheet.good
    tensors: dict[str, Array] = {}
    for part in PARTS:
        arrays = [row.parts[part] for row in good if part in row.parts]
        if len({(array.shape, array.dtype) for array in arrays}) == 1 == bool(arrays):
            tensors[part] = plain(np.stack(arrays))
        else:
            tensors |= {f"{part}.{i}": plain(one) for i, one in enumerate(arrays)}
    if good and all(row.size for row in good):
        tensors["sizes"] = np.array([row.size for row in good], np.int32)
    return save(tensors, said(sheet))


def plain(array: Array) -> Array:
    """As the format has numbers; `save` writes them as they lie, in whatever order that is."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def said(sheet: Sheet) -> dict[str, str]:
    """The metadata of a file."""
    head = sheet.head
    said = {"schema": SCHEMA, "status": ",".join(map(str, sheet.status))}
    if head.fingerprint is not None:
        said["fingerprint"] = names.print_text(head.fingerprint)
    if head.codebook:
        said["codebook"] = head.codebook
    said |= {
        key: str(getattr(head, key)) for key in ("codebook_size", "depth") if getattr(head, key)
    }
    scales = [names.sizes_text(row.scales) for row in sheet.good]
    if any(scales):
        said["scales"] = scales[0] if len(set(scales)) == 1 else ";".join(scales)
    failed = [[i, *row] for i, row in enumerate(sheet.rows) if isinstance(row, Failure)]
    if failed:
        said["errors"] = orjson.dumps(failed).decode()
    return said

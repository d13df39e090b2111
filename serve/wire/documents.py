"""JSON of codes, latents and pictures: application/json.

What `write` gives, `read` takes; shorter forms are taken, too: {"codes": grid} of one picture,
{"codes": [grid, grid]} of several, and a line of `vqtok encode`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from vqtok.errors import LoadError, did_you_mean
from vqtok.serve.wire.errors import Failure, WireError, shown
from vqtok.serve.wire.files import text_of
from vqtok.serve.wire.headers import check_scales
from vqtok.serve.wire.sheets import SCHEMA, Array, Expect, Head, Row, Sheet
from vqtok.types import Fingerprint

__all__ = [
    "PICTURE",
    "check_not_tokens",
    "entries_of",
    "failure_of",
    "parsed",
    "read",
    "read_lines",
    "write",
]

# Numbers, lists and objects of one body: each takes some 60 bytes as Python has it.
MOST_VALUES = 1 << 21
DEEPEST = 8
PICTURE = ("images", "image", "frames")  # what an object that brings pictures has one of
HUGE = 2.0**63  # whole numbers from twice that on are floats once they are read
_TOO_LONG = "{!r} holds numbers of more than 63 bits"
# What messages call values.
KINDS = {
    bool: "true or false",
    dict: "an object",
    float: "fractions",
    int: "whole numbers",
    list: "a list",
    str: "text",
}


def parsed(body: bytes) -> dict[str, Any]:
    """The object that a body is; its memory is bounded before it is read."""
    _check_values(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError("bad_json", f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise WireError(
            "bad_json",
            f"the body is JSON, but {KINDS.get(type(document), 'null')}; an object is needed, "
            'such as {"codes": [[0, 1], [2, 3]]}',
        )
    schema = document.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise WireError("bad_json", f"'schema' is {SCHEMA!r} here; got {shown(schema)}")
    return document


def _check_values(body: bytes) -> None:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise WireError(
            "too_large",
            f"JSON of more than {MOST_VALUES} values is not read; send application/x-npy or "
            "application/safetensors",
        )


def entries_of(document: Mapping[str, Any], wanted: Sequence[str]) -> list[dict[str, Any]] | None:
    """What stands under "pictures"; None where the document is one picture's own."""
    if "pictures" in document:
        entries = document["pictures"]
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise WireError("bad_json", "'pictures' is a list of objects, one a picture")
        return entries
    if any(name in document for name in wanted):
        return None
    names = ", ".join(map(repr, list(document)[:8])) or "none"
    raise WireError(
        "missing_part",
        f"the JSON has no {' and no '.join(map(repr, wanted))}; it has {names:.200}. "
        f"{did_you_mean(str(next(iter(document), ''))[:60], ['pictures', *wanted])}",
    )


def check_not_tokens(entry: Mapping[str, Any]) -> None:
    """Raises where codes or latents are sent in the place of a picture."""
    found = next((part for part in ("codes", "latents") if part in entry), None)
    if found and not any(name in entry for name in PICTURE):
        raise WireError("not_a_picture", f"these are {found}; /v1/decode takes them")


def failure_of(entry: Mapping[str, Any]) -> Failure | None:
    """The error that stands in a picture's place in an answer."""
    if "error" not in entry:
        return None
    error = entry["error"] if isinstance(entry["error"], dict) else {}
    status = error.get("status", entry.get("status"))
    if type(status) is not int or not 400 <= status <= 599:
        status = 422
    return Failure(status, str(error.get("code", "failed")), str(error.get("message", "it failed")))


def read(headers: Mapping[str, str], body: bytes, expect: Expect) -> Sheet:
    """Codes or latents, one picture's or several."""
    try:
        document = parsed(body)
    except WireError as error:
        if error.code != "bad_json" or not _are_lines(body):
            raise
        raise WireError(
            "bad_json",
            "the body is several lines of JSON; send it with content-type: application/jsonl",
        ) from None
    listed = entries_of(document, list(expect.axes))
    entries = _bare(document, expect) if listed is None else listed
    expect.check_count(len(entries))
    names = [""] if len(entries) == 1 else [f"picture {index}" for index in range(len(entries))]
    rows = [_row(one, name, expect) for one, name in zip(entries, names, strict=True)]
    return Sheet(rows, _head(document))


def _are_lines(body: bytes) -> bool:
    """Whether the first line is an object, after which nothing may follow in JSON."""
    first, _, rest = body.strip().partition(b"\n")
    if not rest or not first.rstrip().endswith(b"}"):
        return False
    try:
        return isinstance(orjson.loads(first), dict)
    except orjson.JSONDecodeError:
        return False


def read_lines(headers: Mapping[str, str], body: bytes, expect: Expect) -> Sheet:
    """application/jsonl: a picture a line, as `vqtok encode` writes them."""
    lines = [line for line in body.splitlines() if line.strip()]
    expect.check_count(len(lines))
    _check_values(body)
    alone = len(lines) == 1
    sheets = [
        _line(line, number, "" if alone else f"picture {number}", expect)
        for number, line in enumerate(lines)
    ]
    heads = {sheet.head for sheet in sheets}
    if len(heads) > 1:
        raise WireError(
            "codebook_mismatch", "the lines name several codebooks; codes of one are taken at once"
        )
    rows = [row for sheet in sheets for row in sheet.rows]
    return Sheet(rows, heads.pop() if heads else Head())


def _line(line: bytes, number: int, name: str, expect: Expect) -> Sheet:
    """One picture; what is wrong with a line that is none ends the request."""
    try:
        document = parsed(line)
        if entries_of(document, list(expect.axes)) is not None:
            raise WireError("bad_json", "a line is one picture, and this has 'pictures'")
        return Sheet([_row(document, name, expect)], _head(document))
    except WireError as error:
        raise WireError(error.code, f"line {number + 1}: {error}") from None


def _bare(document: Mapping[str, Any], expect: Expect) -> Sequence[Mapping[str, Any]]:
    """One picture's entry without a list around it, or several without names."""
    part = next(part for part in expect.axes if part in document)
    if not expect.several(part, _axes(document[part])):
        return [document]
    shared = {key: document[key] for key in ("size", "scales") if key in document}
    return [{part: one, **shared} for one in document[part]]


def _axes(value: Any) -> int:
    axes = 0
    while isinstance(value, list):
        if axes == DEEPEST:
            raise WireError("wrong_shape", f"lists are more than {DEEPEST} deep")
        axes, value = axes + 1, value[0] if value else None
    return axes


def _row(entry: Mapping[str, Any], name: str, expect: Expect) -> Row | Failure:
    failure = failure_of(entry)
    if failure is not None:
        failure = expect.failed(failure)
        return failure.named(name) if name and not expect.trusted else failure
    try:
        parts = {part: _array(part, entry[part]) for part in expect.axes if part in entry}
        if not parts:
            known = " or ".join(map(repr, expect.axes))
            raise WireError("missing_part", f"there is no {known} of it")
        if "codes" in parts and entry.get("grid") is not None:
            _check_grid(parts["codes"], entry["grid"])
        size = () if entry.get("size") is None else tuple(_numbers("size", entry["size"]))
        return Row(parts, size, _scales(entry.get("scales")))
    except WireError as error:
        return error.failure.named(name) if name else error.failure


def _array(part: str, value: Any) -> Array:
    """Nested lists of one depth, whose lists have one length on each level -> an array."""
    flat, shape = [value], list[int]()
    for _ in range(_axes(value)):
        lengths = {len(one) if isinstance(one, list) else -1 for one in flat}
        if len(lengths) > 1:
            raise WireError("wrong_shape", f"{part!r} are rows of one length, and these are not")
        shape += lengths
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if not shape or not kinds <= ({int, float} if part == "latents" else {int}):
        message = _wrong(part, kinds, flat)
        raise WireError("not_codes" if part == "codes" else "bad_latents", message)
    try:
        return np.array(flat, np.int64 if kinds <= {int} else np.float64).reshape(shape)
    except OverflowError:
        raise WireError("not_codes", _TOO_LONG.format(part)) from None


def _wrong(part: str, kinds: set[type], values: Sequence[Any]) -> str:
    if kinds <= {int, float} and any(abs(one) >= HUGE for one in values):
        return _TOO_LONG.format(part)
    what = "whole numbers" if part == "codes" else "numbers"
    got = sorted(KINDS.get(kind, "null") for kind in kinds)
    return f"{part!r} are rows of {what}, as lists; got {' and '.join(got)}"


def _numbers(name: str, value: Any) -> list[int]:
    # Of what is longer than any shape the rest isn't looked at: several pictures may share it.
    first = value[: DEEPEST + 1] if isinstance(value, list) else None
    if first is None or not all(type(one) is int for one in first):
        raise WireError("bad_json", f"{name!r} is a list of whole numbers; got {shown(value)}")
    return first


def _scales(value: Any) -> tuple[tuple[int, int], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise WireError("bad_json", f"'scales' is a list of [height, width]; got {shown(value)}")
    check_scales(len(value))
    pairs = [_numbers("scales", one) for one in value]
    if any(len(pair) != 2 for pair in pairs):
        raise WireError("bad_json", f"'scales' is a list of [height, width]; got {shown(value)}")
    return tuple((pair[0], pair[1]) for pair in pairs)


def _check_grid(codes: Array, grid: Any) -> None:
    """What the entry says of its own shape; a last axis may be the codes of one token."""
    dims = tuple(_numbers("grid", grid))
    if dims not in (codes.shape, codes.shape[:-1]):
        raise WireError(
            "wrong_shape",
            f"the grid is said to be {shown(list(dims))}; the codes have the shape "
            f"{list(codes.shape)}",
        )


def _head(document: Mapping[str, Any]) -> Head:
    given = document.get("fingerprint")
    try:
        fingerprint = None if given is None else Fingerprint.from_dict(given)
    except LoadError as error:
        raise WireError("bad_json", f"'fingerprint': {error}"[:300]) from None
    codebook = document.get("codebook") or (fingerprint.codebook if fingerprint else "")
    if not isinstance(codebook, str) or not re.fullmatch("([0-9a-f]{64})?", codebook):
        raise WireError(
            "bad_json", f"'codebook' is the codebook's sha256, 64 digits; got {shown(codebook)}"
        )
    numbers = {key: document.get(key) or 0 for key in ("codebook_size", "depth")}
    for key, number in numbers.items():
        if type(number) is not int or number < 0:
            raise WireError("bad_json", f"{key!r} is a whole number; got {shown(number)}")
    return Head(fingerprint, codebook, **numbers)


def write(sheet: Sheet, main: str) -> bytes:
    """Every part of every row, pixels as PNG files in base64, and why the others failed."""
    head = sheet.head
    document: dict[str, Any] = {"schema": SCHEMA}
    if head.fingerprint is not None:
        document["fingerprint"] = head.fingerprint.to_dict()
    elif head.codebook:
        document["codebook"] = head.codebook
    document |= {
        key: getattr(head, key) for key in ("codebook_size", "depth") if getattr(head, key)
    }
    document["pictures"] = [_entry(row, head.depth) for row in sheet.rows]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _entry(row: Row | Failure, depth: int) -> dict[str, Any]:
    if isinstance(row, Failure):
        return {"status": row.status, "error": row._asdict()}
    entry: dict[str, Any] = {"status": 200}
    codes = row.parts.get("codes")
    if codes is not None:
        entry["grid"] = codes.shape[: codes.ndim - bool(depth)]
    if row.size:
        entry["size"] = row.size
    if row.scales:
        entry["scales"] = row.scales
    entry |= {part: _plain(row.parts[part]) for part in ("codes", "latents") if part in row.parts}
    pixels = row.parts.get("pixels")
    if pixels is not None and pixels.ndim == 3:
        entry["image"] = text_of(pixels)
    elif pixels is not None:
        entry["frames"] = [text_of(frame) for frame in pixels]
    return entry


def _plain(array: Array) -> Array:
    """As orjson takes arrays."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))

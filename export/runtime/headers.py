"""What an ONNX file says of itself, read without the graph, the weights or the onnx package.

A model is a protocol buffer: fields, each with a number and, before its bytes, how many there are.
Of all fields only those with the properties are read, the others, gigabytes maybe, are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from vqtok.errors import LoadError

__all__ = ["properties"]

PROPERTIES, KEY, VALUE = 14, 1, 2  # `metadata_props` of a ModelProto, and its two fields
NUMBER, BYTES = 0, 2  # kinds of fields
FIXED = {1: 8, 5: 4}
LONGEST = 1 << 26  # of one property


def properties(file: Path) -> dict[str, str]:
    """The `metadata_props` of a model; `LoadError` where a file is none."""
    try:
        with file.open("rb") as stored:
            return dict(_entry(held) for held in _fields(stored, PROPERTIES))
    except (EOFError, ValueError) as error:
        raise LoadError(f"{file} is no ONNX file: {error}") from error


def _entry(held: bytes) -> tuple[str, str]:
    key, value = (next(_fields(BytesIO(held), number), b"") for number in (KEY, VALUE))
    return key.decode(), value.decode()


def _fields(stored: BinaryIO, wanted: int) -> Iterator[bytes]:
    """The bytes of each field of that number."""
    end = stored.seek(0, 2)
    stored.seek(0)
    while stored.tell() < end:
        number, kind = divmod(_varint(stored), 8)
        if kind == NUMBER:
            _varint(stored)
            continue
        if kind != BYTES and kind not in FIXED:
            raise ValueError(f"there is no kind of field {kind}")
        length = FIXED.get(kind) or _varint(stored)
        if stored.tell() + length > end:
            raise EOFError("it ends too early")
        if number != wanted or kind != BYTES:
            stored.seek(length, 1)
        elif length > LONGEST:
            raise ValueError(f"a property has {length} bytes")
        else:
            yield stored.read(length)


def _varint(stored: BinaryIO) -> int:
    """A whole number, seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = stored.read(1)
        if not byte:
            raise EOFError("it ends too early")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number has more than 64 bits")

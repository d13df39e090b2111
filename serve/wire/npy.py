"""One array as numpy.save writes it: application/x-npy. Never pickles."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping

import numpy as np

from vqtok.serve.wire.errors import WireError
from vqtok.serve.wire.raw import DTYPES, headed
from vqtok.serve.wire.sheets import Array, Expect, Sheet, stacked

__all__ = ["array_of", "read", "write"]

MAGIC = b"\x93NUMPY"
LONGEST = 4096  # bytes of a header; numpy itself reads 10,000
_DESCR = re.compile(rb"'descr': *'([<>|=][a-z]\d{1,2})'")
_ORDER = re.compile(rb"'fortran_order': *(True|False)")
_SHAPE = re.compile(rb"'shape': *\(((?: *\d{1,12} *,?){0,16})\)")


def read(headers: Mapping[str, str], body: bytes, expect: Expect) -> Sheet:
    """That of one picture, or with one axis more; sizes and scales are told by headers."""
    return headed(array_of(body), headers, expect)


def array_of(body: bytes) -> Array:
    """In any byte order and either order of axes; nothing is taken that the body does not hold."""
    head, start = _head(body)
    descr, order, shape = (find.search(head) for find in (_DESCR, _ORDER, _SHAPE))
    if not (descr and order and shape):
        raise WireError(
            "bad_npy",
            "the npy file holds no plain array of numbers, or its header is not as numpy.save "
            f"writes it; got {head[:80].decode('ascii', 'replace').strip()!r}",
        )
    dtype = _dtype(descr[1].decode())
    dims = tuple(int(side) for side in shape[1].replace(b",", b" ").split())
    count = math.prod(dims)
    if not count:
        raise WireError("empty", f"the npy file holds an array of the shape {dims}, of no numbers")
    if len(body) - start != count * dtype.itemsize:
        raise WireError(
            "truncated" if len(body) - start < count * dtype.itemsize else "bad_npy",
            f"the npy file says that it holds {dtype.name} of the shape {dims}, which is "
            f"{count * dtype.itemsize} bytes; after its header come {len(body) - start}",
        )
    flat = np.frombuffer(body, dtype, count, start)
    array = flat.reshape(dims, order="F" if order[1] == b"True" else "C")
    return np.ascontiguousarray(array, dtype.newbyteorder("="))


def _head(body: bytes) -> tuple[bytes, int]:
    """The header's text, and where numbers start."""
    if body[:6] != MAGIC or len(body) < 12 or body[6] not in (1, 2, 3):
        raise WireError(
            "bad_npy",
            f"the body is no npy file, as numpy.save writes them; got {len(body)} bytes"
            f" that begin with {body[:8].hex(' ') or 'nothing'}",
        )
    start = 10 if body[6] == 1 else 12
    length = int.from_bytes(body[8:start], "little")
    if length > LONGEST or start + length > len(body):
        raise WireError(
            "bad_npy",
            f"the npy file says that its header is {length} bytes long; at most {LONGEST} are "
            f"read, and the whole file has {len(body)}",
        )
    return body[start : start + length], start + length


def _dtype(descr: str) -> np.dtype[np.generic]:
    try:
        dtype = np.dtype(descr)
    except TypeError:
        dtype = np.dtype("O")
    if dtype.newbyteorder("=").name not in DTYPES:
        raise WireError(
            "bad_npy", f"the npy file holds {descr!r}; arrays of {', '.join(DTYPES)} are taken"
        )
    return dtype


def write(sheet: Sheet, main: str) -> bytes:
    """The part `main` of every good row as one array (N, ...)."""
    file = io.BytesIO()
    array = stacked(sheet, main, "application/x-npy")
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()

"""What comes before the pixels of one clip, in media that are sent while they are made."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import orjson

from vqtok.serve.wire import tensors
from vqtok.serve.wire.media import NPY, RAW, SAFETENSORS
from vqtok.serve.wire.sheets import Array, Head, Row, Sheet, described

__all__ = ["FLOWING", "opening"]

Shape = tuple[int, ...]
# As safetensors calls them, of the parts that come along.
KINDS = {"uint16": "U16", "uint32": "U32", "int32": "I32"}


def opening(row: Row, shape: Shape, head: Head, media: str) -> tuple[bytes, dict[str, str]]:
    """The start of an answer with a clip's pixels, and the answer's headers.

    row    the rest of what is said of it
    shape  (t, h, w, 3) of the pixels, as many bytes of which follow
    media  one of `FLOWING`, or that of a film, which has headers alone
    """
    size = row.size if any(row.size) else shape[:-1]
    blank = np.broadcast_to(np.uint8(0), shape)
    sheet = Sheet([Row({"pixels": blank}, size)], head)
    headers = {"content-type": media, **described(sheet, "pixels")}
    begin = FLOWING.get(media)
    return begin(sheet, row, shape) if begin else b"", headers


def _npy(sheet: Sheet, row: Row, shape: Shape) -> bytes:
    file = io.BytesIO()
    said = {"descr": "|u1", "fortran_order": False, "shape": (1, *shape)}
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue()


def _safetensors(sheet: Sheet, row: Row, shape: Shape) -> bytes:
    """Pixels are the last tensor."""
    others = {"sizes": np.array([sheet.good[0].size], np.int32)}
    if "codes" in row.parts:
        others["codes"] = row.parts["codes"][None]
    plain = {name: tensors.plain(array) for name, array in others.items()}
    text = orjson.dumps({"__metadata__": tensors.said(sheet), **_table(plain, (1, *shape))})
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in plain.values())])


def _table(arrays: dict[str, Array], shape: Shape) -> dict[str, object]:
    """What a file's header says of its tensors; those of 32 bits first, as they must lie."""
    found: dict[str, object] = {}
    start = 0
    for name, array in arrays.items():
        end = start + array.nbytes
        kind = KINDS[array.dtype.name]
        found[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (start, end)}
        start = end
    end = start + math.prod(shape)
    found["pixels"] = {"dtype": "U8", "shape": shape, "data_offsets": (start, end)}
    return found


# Medium -> the bytes before the pixels; the default of clips first.
FLOWING: dict[str, Callable[[Sheet, Row, Shape], bytes]] = {
    NPY: _npy,
    SAFETENSORS: _safetensors,
    RAW: lambda sheet, row, shape: b"",
}

"""Media that hold arrays, by name: a new one is a file beside `npy.py`, a line here and a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from vqtok.serve.wire import documents, npy, raw, tensors
from vqtok.serve.wire.media import JSON, NPY, RAW, SAFETENSORS
from vqtok.serve.wire.sheets import Expect, Sheet

__all__ = ["CARRIERS", "Carrier"]


class Carrier(NamedTuple):
    """How one medium is read and written.

    read   headers, body, what may be in it -> a sheet, or `WireError`
    write  a sheet, and its part that a medium of one array holds -> a body
    """

    read: Callable[[Mapping[str, str], bytes, Expect], Sheet]
    write: Callable[[Sheet, str], bytes]


# The default first.
CARRIERS = {
    JSON: Carrier(documents.read, documents.write),
    SAFETENSORS: Carrier(tensors.read, tensors.write),
    NPY: Carrier(npy.read, npy.write),
    RAW: Carrier(raw.read, raw.write),
}

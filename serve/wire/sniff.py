"""What a body is whose headers do not say: told by its first bytes, as a fallback."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vqtok.serve.wire import headers as names
from vqtok.serve.wire import npy
from vqtok.serve.wire.files import kind_of
from vqtok.serve.wire.media import (
    JSON,
    MEDIA,
    NPY,
    OWN_NAMES,
    RAW,
    SAFETENSORS,
    check_encoding,
    content_of,
)

__all__ = ["is_vague", "medium_of"]

_OBJECT = re.compile(rb"\s*\{")


def is_vague(headers: Mapping[str, str]) -> bool:
    """Whether the Content-Type is missing, or that of raw numbers without a shape."""
    name = headers.get("content-type", "").partition(";")[0].strip().lower()
    return name in ("", "*/*") or (OWN_NAMES.get(name) == RAW and names.SHAPE not in headers)


def medium_of(headers: Mapping[str, str], body: bytes, offered: Sequence[str]) -> str:
    """The medium of a body, of those offered.

    Where neither headers nor first bytes tell, what `content_of` says.
    """
    check_encoding(headers)
    found = _kind(body)
    if found in offered:
        return found
    return content_of(headers, offered).media


def _kind(body: bytes) -> str:
    kind = kind_of(body)
    if kind is not None:
        return MEDIA[kind][0]
    if body.startswith(npy.MAGIC):
        return NPY
    if body[8:10] == b'{"' and int.from_bytes(body[:8], "little") < len(body):
        return SAFETENSORS
    return JSON if _OBJECT.match(body) else ""

"""Headers that say what a body holds, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from vqtok.errors import LoadError
from vqtok.serve.wire.errors import WireError
from vqtok.types import Fingerprint

__all__ = [
    "CODEBOOK",
    "CODEBOOK_SIZE",
    "DTYPE",
    "FINGERPRINT",
    "SCALES",
    "SHAPE",
    "SIZES",
    "STATUS_OF_EACH",
    "check_scales",
    "needed",
    "parse_dims",
    "parse_number",
    "parse_print",
    "parse_scales",
    "parse_sizes",
    "parse_status",
    "print_text",
    "sizes_text",
]

# In lower case, as ASGI has them; names of headers are the same in any case.
CODEBOOK = "x-vqtok-codebook"
CODEBOOK_SIZE = "x-vqtok-codebook-size"
DTYPE = "x-vqtok-dtype"
FINGERPRINT = "x-vqtok-fingerprint"
SCALES = "x-vqtok-scales"
SHAPE = "x-vqtok-shape"
SIZES = "x-vqtok-sizes"
STATUS_OF_EACH = "x-vqtok-status"

MOST_AXES = 8
MOST_SCALES = 256
MOST_DIGITS = 10  # of a number in a header: what is longer is nobody's picture
_DIMS = re.compile(rf"\d{{1,{MOST_DIGITS}}}(, ?\d{{1,{MOST_DIGITS}}}){{0,{MOST_AXES - 1}}}", re.A)
_SIZES = re.compile(rf"\d{{1,{MOST_DIGITS}}}(x\d{{1,{MOST_DIGITS}}}){{1,2}}", re.A)


@lru_cache(64)
def print_text(fingerprint: Fingerprint) -> str:
    """vqtok-fp/1;preprocess=<64 hex>;encoder=...;codebook=...;decoder=..., for `parse_print`."""
    schema, *parts = fingerprint.to_dict().items()
    return ";".join([schema[1], *(f"{name}={value}" for name, value in parts)])


def parse_print(text: str) -> Fingerprint:
    """A `WireError` (bad_header) for anything but what `print_text` gives."""
    schema, *parts = text.split(";")
    stored = dict(part.partition("=")[::2] for part in parts)
    try:
        return Fingerprint.from_dict({"schema": schema, **stored})
    except LoadError:
        raise WireError(
            "bad_header",
            f"a fingerprint is written {Fingerprint.SCHEMA};preprocess=<sha256>;encoder=<sha256>;"
            f"codebook=<sha256>;decoder=<sha256>; got {text!r:.80}",
        ) from None


def needed(headers: Mapping[str, str], name: str, why: str) -> str:
    """A header's value; a `WireError` (missing_header) that says `why` where it is not there."""
    if name not in headers:
        raise WireError("missing_header", f"{why}: add the header {name}")
    return headers[name]


def parse_dims(text: str, name: str) -> tuple[int, ...]:
    """The text 2,256,256,3 -> (2, 256, 256, 3); `name` is the header's."""
    dims = tuple(map(int, text.split(","))) if _DIMS.fullmatch(text.strip()) else (0,)
    if min(dims) < 1:
        raise WireError(
            "bad_header",
            f"{name} is whole numbers from 1 on with commas between, such as 256,256,3; got "
            f"{text!r:.60}",
        )
    return dims


def parse_sizes(text: str, name: str) -> list[tuple[int, ...]]:
    """The text 256x256,8x128x128 -> [(256, 256), (8, 128, 128)]; `name` is the header's."""
    items = [item.strip() for item in text.split(",")]
    wrong = next((item for item in items if not _SIZES.fullmatch(item)), None)
    if wrong is not None:
        raise WireError(
            "bad_header",
            f"{name} is heights and widths with commas between, such as 256x256,192x256, of clips "
            f"the frames before them; got {wrong!r:.60}",
        )
    return [tuple(map(int, item.split("x"))) for item in items]


def parse_scales(text: str, name: str) -> tuple[tuple[int, int], ...]:
    """The text 1x1,2x2 -> ((1, 1), (2, 2)); none of no text."""
    check_scales(text.count(",") + 1)
    pairs = parse_sizes(text, name) if text else []
    if any(len(pair) != 2 for pair in pairs):
        raise WireError(
            "bad_header", f"{name} is heights and widths, such as 1x1,2x2; got {text!r:.60}"
        )
    return tuple((pair[0], pair[1]) for pair in pairs)


def check_scales(count: int) -> None:
    """Raises where there are too many, before anything is made of each."""
    if count > MOST_SCALES:
        raise WireError("wrong_shape", f"there are {count} scales; at most {MOST_SCALES} are taken")


def sizes_text(sizes: Sequence[Sequence[int]]) -> str:
    """The inverse of `parse_sizes`."""
    return ",".join("x".join(map(str, size)) for size in sizes)


def parse_number(headers: Mapping[str, str], name: str) -> int:
    """A whole number; 0 where the header is not there."""
    text = headers.get(name, "").strip() or "0"
    if not re.fullmatch(rf"\d{{1,{MOST_DIGITS}}}", text, re.A):
        raise WireError("bad_header", f"{name} is a whole number; got {text!r:.60}")
    return int(text)


def parse_status(text: str) -> list[int]:
    """The text 200,400,200 -> [200, 400, 200]."""
    items = text.split(",")
    if not all(re.fullmatch(r"200|[45]\d\d", item.strip(), re.A) for item in items):
        raise WireError(
            "bad_header", f"{STATUS_OF_EACH} is a status for each picture; got {text!r:.60}"
        )
    return list(map(int, items))

"""Bodies and headers of requests and answers, for server and client alike.

Importing this brings neither torch nor a web framework. A body becomes a `Sheet`: rows of arrays
(`sheets`), which each medium reads and writes (`raw`, `npy`, `tensors`, `documents`: a new one is
a file and a line in `carriers`). On top of it are pictures and codes. What anybody sends, the only
exceptions are `WireError` and other classes of `vqtok.errors`.
"""

from __future__ import annotations

from vqtok.serve.wire.codes import (
    CARRIERS,
    Latents,
    head_of,
    read_codes,
    read_tokens,
    row_of,
    write_tokens,
)
from vqtok.serve.wire.errors import STATUS, Failure, WireError
from vqtok.serve.wire.headers import parse_print, print_text
from vqtok.serve.wire.limits import Limits
from vqtok.serve.wire.media import MEDIA, by_name, content_of, negotiate
from vqtok.serve.wire.pictures import (
    ACCEPTED,
    PictureReader,
    Upload,
    picture_reader,
    read_pictures,
)
from vqtok.serve.wire.pixels import offered_pictures, read_pixels, write_pictures
from vqtok.serve.wire.sheets import Head, Row, Sheet
from vqtok.serve.wire.space import Space

__all__ = [
    "ACCEPTED",
    "CARRIERS",
    "MEDIA",
    "STATUS",
    "Failure",
    "Head",
    "Latents",
    "Limits",
    "PictureReader",
    "Row",
    "Sheet",
    "Space",
    "Upload",
    "WireError",
    "by_name",
    "content_of",
    "head_of",
    "negotiate",
    "offered_pictures",
    "parse_print",
    "picture_reader",
    "print_text",
    "read_codes",
    "read_pictures",
    "read_pixels",
    "read_tokens",
    "row_of",
    "write_pictures",
    "write_tokens",
]

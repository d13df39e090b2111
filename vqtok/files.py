"""Files that are whole or not there: written beside their place, then moved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["whole"]


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """`path` open for writing; after an error or an interruption it is as it was before."""
    place = path.resolve()  # a link stays a link
    if place.exists() and not place.is_file():  # a pipe or a device
        with place.open("wb") as file:
            yield file
        return
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)

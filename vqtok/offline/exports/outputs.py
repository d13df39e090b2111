"""Folders that are whole or not there, and the files that stand beside every export's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from vqtok.errors import LoadError
from vqtok.offline.exports import Advance, Tokens
from vqtok.offline.rows import Row
from vqtok.offline.stored import canonical, compact

__all__ = [
    "ORIGIN",
    "ROWS",
    "grouped",
    "line",
    "new_folder",
    "read_rows",
    "row_line",
    "told_rows",
    "write_origin",
]

ORIGIN = "origin.json"
ROWS = "rows.jsonl"
SCHEMA = "vqtok-export/1"
Item = TypeVar("Item")
TOLD = ("key", "view", "size", "grid", "scales", "label", "text")


@contextmanager
def new_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `out` to write in, moved there at the end; after an error nothing is left."""
    place = out.resolve()  # a link stays a link
    _check_place(place, overwrite=overwrite)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that had this number and was killed
    part.mkdir()
    try:
        yield part
        _move(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_origin(folder: Path, name: str, tokens: Tokens, told: Mapping[str, Any]) -> None:
    """origin.json: of which data set and tokenizer this is, and what was made of it."""
    tokenizer = tokens.plan.tokenizer
    origin = {
        "schema": SCHEMA,
        "export": name,
        "dataset": tokens.sha256,
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "codebook_size": tokenizer.codebook_size,
            "depth": tokenizer.depth,
        },
        "rows": len(tokens),
        **told,
    }
    if tokens.plan.with_latents:
        origin["shift_factor"] = tokens.shift_factor
        origin["scaling_factor"] = tokens.scaling_factor
    (folder / ORIGIN).write_bytes(canonical(origin))


def read_rows(tokens: Tokens, advance: Advance) -> Iterator[Row]:
    """The rows, each counted when whoever takes them is done with it."""
    for row in tokens:
        yield row
        advance(1)


def grouped(items: Iterator[Item], most: int) -> Iterator[list[Item]]:
    """So many together, and at last what is left."""
    while group := list(islice(items, most)):
        yield group


def told_rows(tokens: Tokens, folder: Path, advance: Advance) -> Iterator[Row]:
    """As `read_rows`, with a line of rows.jsonl for each."""
    with (folder / ROWS).open("wb") as lines:
        for row in read_rows(tokens, advance):
            lines.write(row_line(row))
            yield row


def row_line(row: Row) -> bytes:
    """A line of rows.jsonl: what a trainer's own format leaves out of a row."""
    told = row._asdict()
    return line({name: told[name] for name in TOLD})


def line(value: Any) -> bytes:
    """JSON on one line."""
    return compact(value).encode() + b"\n"


# --- inside -------------------------------------------------------------------------------------


def _check_place(place: Path, *, overwrite: bool) -> None:
    there = next(folder for folder in place.parents if folder.exists())
    if not there.is_dir():
        raise LoadError(f"{there} is a file, so there can be no {place}")
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir():
        raise LoadError(f"{place} is a file; an export is a folder")
    if not overwrite:
        raise LoadError(f"{place} is there already; --overwrite replaces it")
    if not (place / ORIGIN).is_file():
        raise LoadError(f"{place} is no export, so it is not replaced; name another")


def _move(part: Path, place: Path) -> None:
    """`part` in the place of what was there."""
    if not place.exists():
        part.rename(place)
        return
    old = part.with_suffix(".old")
    place.rename(old)
    part.rename(place)
    shutil.rmtree(old)

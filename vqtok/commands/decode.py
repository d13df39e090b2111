"""`vqtok decode`: JSON lines to pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from vqtok.commands.outputs import Pictures
from vqtok.commands.progress import progress
from vqtok.commands.rows import Reader
from vqtok.commands.setup import Setup
from vqtok.errors import InputError, LoadError

__all__ = ["run"]


def run(setup: Setup, source: str, output: str) -> None:
    """Decodes each line of `source` into `output`."""
    pictures = Pictures(output)
    total = _count(source)
    tok = setup.load()
    name = "standard input" if source == "-" else repr(source)
    reader = Reader(tok, name)
    with _open(source) as file, progress(total, "decode", to_stdout=False) as advance:
        numbered = _numbered(file, name, single=pictures.single)
        while part := [reader.row(*pair) for pair in islice(numbered, 4 * tok.batch_size)]:
            places = [pictures.place(row.key) for row in part]
            decoded = tok.decode_codes([row.codes for row in part])
            for picture, place in zip(decoded, places, strict=True):
                pictures.save(picture, place)
            advance(len(part))


def _numbered(file: IO[bytes], name: str, *, single: bool) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, from 1, so that memory holds a few of them."""
    numbered = ((n, text) for n, text in enumerate(file, 1) if text.strip())
    first = list(islice(numbered, 2))
    if not first:
        raise InputError(f"{name} holds no codes")
    if single and len(first) > 1:
        raise InputError(f"{name} holds more than one picture; name a folder with --output")
    yield from first
    yield from numbered


def _count(source: str) -> int:
    """How many lines there are, for the progress bar; standard input is not kept to be counted."""
    if source == "-":
        return 0
    if not Path(source).is_file():
        raise LoadError(f"there is no file {source!r}")
    with open(source, "rb") as file:
        return sum(1 for text in file if text.strip())


@contextmanager
def _open(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        yield sys.stdin.buffer
    else:
        with open(source, "rb") as file:
            yield file

"""`vqtok decode`: JSON lines to pictures or clips."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from vqtok.commands.outputs import Movies, Pictures
from vqtok.commands.progress import counted, progress
from vqtok.commands.rows import Reader
from vqtok.commands.setup import Setup
from vqtok.errors import ConfigError, InputError, LoadError
from vqtok.tokenizer import VisualTokenizer

__all__ = ["run"]

Lines = Iterator[tuple[int, bytes]]


def run(
    setup: Setup, source: str, output: str, form: str | None = None, fps: float | None = None
) -> None:
    """Decodes each line of `source` into `output`; `form` and `fps` are for clips."""
    total = _count(source)
    tok = setup.load()
    name = "standard input" if source == "-" else repr(source)
    reader = Reader(tok, name)
    if tok.is_video:
        movies = Movies(output, form)
        with _open(source) as file:
            _clips(reader, _numbered(file, name, "clip", single=movies.single), movies, fps)
        return
    if form is not None or fps is not None:
        raise ConfigError("--format and --fps are for clips; this tokenizer makes pictures, PNG")
    pictures = Pictures(output)
    with _open(source) as file, progress(total, "decode", to_stdout=False) as advance:
        numbered = _numbered(file, name, "picture", single=pictures.single)
        for done in _pictures(tok, reader, numbered, pictures):
            advance(done)


def _pictures(
    tok: VisualTokenizer, reader: Reader, numbered: Lines, pictures: Pictures
) -> Iterator[int]:
    """Saves a few at a time; gives how many."""
    while part := [reader.row(*pair) for pair in islice(numbered, 4 * tok.batch_size)]:
        places = [pictures.place(row.key) for row in part]
        decoded = tok.decode_codes([row.codes for row in part])
        for picture, place in zip(decoded, places, strict=True):
            pictures.save(picture, place)
        yield len(part)


def _clips(reader: Reader, numbered: Lines, movies: Movies, fps: float | None) -> None:
    """Saves one after another, a few frames at a time."""
    for pair in numbered:
        row = reader.row(*pair)
        frames = int(row.codes.sizes[0, 0])
        place = movies.place(row.key, frames)
        with progress(frames, row.key, to_stdout=False) as advance:
            decoded = reader.tok.decode_clip(row.codes)
            movies.save(counted(decoded, advance), place, fps or row.fps)


def _numbered(file: IO[bytes], name: str, what: str, *, single: bool) -> Lines:
    """The lines that are not empty, from 1, so that memory holds a few of them."""
    numbered = ((n, text) for n, text in enumerate(file, 1) if text.strip())
    first = list(islice(numbered, 2))
    if not first:
        raise InputError(f"{name} holds no codes")
    if single and len(first) > 1:
        raise InputError(f"{name} holds more than one {what}; name a folder with --output")
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

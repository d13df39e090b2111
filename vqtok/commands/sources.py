"""The pictures that arguments name, a few at a time, and what becomes of bad ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.batches import WAITING
from vqtok.commands.progress import progress, say
from vqtok.errors import ImageError, InputError, LoadError, VqtokError
from vqtok.preprocess import Preprocess, preprocess
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

__all__ = ["Encoded", "Failures", "Source", "encoded", "find"]

NAMES = "avif bmp gif jfif jp2 jpeg jpg pgm png ppm tif tiff webp"
SUFFIXES = frozenset(f".{name}" for name in NAMES.split())


class Source(NamedTuple):
    """A picture to read, and the key that stands for it in the output."""

    key: str
    data: Path | bytes

    def pixels(self, settings: Preprocess) -> npt.NDArray[np.uint8]:
        """The picture as the model will see it, (h, w, 3)."""
        name = "standard input" if isinstance(self.data, bytes) else None
        return preprocess(self.data, settings, name=name)


class Encoded(NamedTuple):
    """A picture as the model saw it (h, w, 3), and its codes."""

    key: str
    pixels: npt.NDArray[np.uint8]
    codes: Codes


class Failures:
    """Pictures that could not be taken. One alone is an error; one of many is skipped."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0

    def add(self, error: VqtokError) -> None:
        """Says so and goes on, or raises where there was but one picture."""
        if self.total == 1:
            raise error
        self.count += 1
        say(f"skipped: {error}")

    def status(self) -> int:
        """The exit status: 1 where something was skipped."""
        if self.count:
            say(f"skipped {self.count} of {self.total} pictures")
        return int(self.count > 0)


def find(arguments: list[str]) -> list[Source]:
    """Files as given, folders searched for pictures, - read from standard input."""
    found = [source for argument in arguments for source in _find(argument)]
    seen: dict[str, Source] = {}
    for source in found:
        other = seen.setdefault(source.key, source)
        if other is not source:
            raise InputError(
                f"two pictures would have the key {source.key!r}, {_name(other)} and "
                f"{_name(source)}; keys are paths inside a folder, so name one that holds both"
            )
    return found


def _name(source: Source) -> str:
    return "standard input" if isinstance(source.data, bytes) else f"'{source.data}'"


def _find(argument: str) -> list[Source]:
    path = Path(argument)
    if argument == "-":
        return [Source("stdin", sys.stdin.buffer.read())]
    if not argument or not path.exists():
        raise LoadError(f"there is no file or folder {argument!r}")
    if not path.is_dir():
        return [Source(path.name, path)]
    inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir())
    if not inside:
        raise LoadError(f"the folder {argument!r} holds no pictures")
    return [Source(p.relative_to(path).as_posix(), p) for p in inside]


def encoded(
    tok: VisualTokenizer,
    sources: list[Source],
    failures: Failures,
    label: str,
    *,
    to_stdout: bool = True,
) -> Iterator[list[Encoded]]:
    """Reads and encodes, in the given order, so that memory holds a few batches.

    `label` and `to_stdout` are for `progress`.
    """
    with progress(len(sources), label, to_stdout=to_stdout) as advance:
        for taken, read in _read(tok, sources, failures):
            codes = tok.encode_pixels([pixels for _, pixels in read])
            yield [Encoded(*pair, one) for pair, one in zip(read, codes, strict=True)]
            advance(taken)


def _read(
    tok: VisualTokenizer, sources: list[Source], failures: Failures
) -> Iterator[tuple[int, list[tuple[str, npt.NDArray[np.uint8]]]]]:
    """Runs of pictures, each with the number of sources it took."""
    read: list[tuple[str, npt.NDArray[np.uint8]]] = []
    taken = held = 0
    for source in sources:
        taken += 1
        try:
            read.append((source.key, source.pixels(tok.settings)))
            held += read[-1][1].nbytes
        except (ImageError, LoadError) as error:
            failures.add(error)
        if taken == 4 * tok.batch_size or held >= WAITING:
            yield taken, read
            read, taken, held = [], 0, 0
    if taken:
        yield taken, read

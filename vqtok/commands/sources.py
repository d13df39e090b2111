"""The pictures that arguments name, a few at a time, and what becomes of bad ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from vqtok.batches import WAITING
from vqtok.commands.progress import progress, say
from vqtok.errors import ImageError, InputError, LoadError, VqtokError
from vqtok.pictures import VIDEOS
from vqtok.preprocess import Prepared, Preprocess, prepare
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

__all__ = [
    "SUFFIXES",
    "Encoded",
    "Failures",
    "Source",
    "check_named",
    "encoded",
    "find",
    "named_once",
]

NAMES = "avif bmp gif jfif jp2 jpeg jpg pgm png ppm tif tiff webp"
SUFFIXES = frozenset(f".{name}" for name in NAMES.split())
FOUND = SUFFIXES.union(VIDEOS)  # in a folder: videos are refused, each by its name


class Source(NamedTuple):
    """A picture to read, and the key that stands for it in the output."""

    key: str
    data: Path | bytes

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if isinstance(self.data, bytes) else f"'{self.data}'"

    def pixels(self, settings: Preprocess) -> npt.NDArray[np.uint8]:
        """The picture as the model will see it, (h, w, 3)."""
        return self.prepared(settings).pixels

    def prepared(self, settings: Preprocess) -> Prepared:
        """The same, and the size that comes back; of an animation the first frame."""
        suffix = self.data.suffix.lower() if isinstance(self.data, Path) else ""
        if suffix in VIDEOS and suffix != ".gif":
            raise ImageError(f"{self.name} is a video; this tokenizer takes pictures")
        return prepare(self.data, settings, name=self.name)


class Encoded(NamedTuple):
    """A picture (h, w, 3), of what the model saw that which comes back, and its codes."""

    key: str
    pixels: npt.NDArray[np.uint8]
    codes: Codes


class Failures:
    """Pictures or clips that could not be taken. One alone is an error; of many, it is skipped."""

    def __init__(self, total: int, what: str = "pictures") -> None:
        self.total = total
        self.what = what
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
            say(f"skipped {self.count} of {self.total} {self.what}")
        return int(self.count > 0)


def find(arguments: list[str]) -> list[Source]:
    """Files as given, folders searched for pictures, - read from standard input."""
    found = [source for argument in arguments for source in _find(argument)]
    return named_once(found, "pictures")


def check_named(arguments: list[str]) -> None:
    """Raises where there is no such file or folder, before a tokenizer is loaded."""
    for argument in arguments:
        if argument != "-" and (not argument or not Path(argument).exists()):
            raise LoadError(f"there is no file or folder {argument!r}")


class _Named(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def name(self) -> str: ...


Kind = TypeVar("Kind", bound=_Named)


def named_once(found: list[Kind], what: str) -> list[Kind]:
    """The same; an error where two have one key."""
    seen: dict[str, Kind] = {}
    for source in found:
        other = seen.setdefault(source.key, source)
        if other is not source:
            raise InputError(
                f"two {what} would have the key {source.key!r}, {other.name} and {source.name}; "
                "keys are paths inside a folder, so name one that holds both"
            )
    return found


def _find(argument: str) -> list[Source]:
    path = Path(argument)
    if argument == "-":
        return [Source("stdin", sys.stdin.buffer.read())]
    check_named([argument])
    if not path.is_dir():
        return [Source(path.name, path)]
    inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in FOUND and not p.is_dir())
    if not inside:
        raise LoadError(f"the folder {argument!r} holds no pictures")
    if not any(p.suffix.lower() in SUFFIXES for p in inside):
        raise LoadError(
            f"the folder {argument!r} holds videos, such as '{inside[0]}', and no pictures, which "
            "this tokenizer takes"
        )
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
            codes = tok.encode_pixels([one.pixels for _, one in read])
            yield [_encoded(*pair, one) for pair, one in zip(read, codes, strict=True)]
            advance(taken)


def _encoded(key: str, seen: Prepared, codes: Codes) -> Encoded:
    height, width = seen.size
    sizes = np.array([seen.size], np.int32)
    return Encoded(key, seen.pixels[:height, :width], replace(codes, sizes=sizes))


def _read(
    tok: VisualTokenizer, sources: list[Source], failures: Failures
) -> Iterator[tuple[int, list[tuple[str, Prepared]]]]:
    """Runs of pictures, each with the number of sources it took."""
    read: list[tuple[str, Prepared]] = []
    taken = held = 0
    for source in sources:
        taken += 1
        try:
            read.append((source.key, source.prepared(tok.settings)))
            held += read[-1][1].pixels.nbytes
        except (ImageError, LoadError) as error:
            failures.add(error)
        if taken == 4 * tok.batch_size or held >= WAITING:
            yield taken, read
            read, taken, held = [], 0, 0
    if taken:
        yield taken, read

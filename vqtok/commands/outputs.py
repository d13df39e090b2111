"""Where results go. A file that is there is whole: it is written beside its place, then moved."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image

from vqtok.errors import InputError, LoadError

__all__ = ["Pictures", "check_lines", "lines", "whole"]


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


def check_lines(output: str) -> None:
    """Raises where `output` cannot be a file of lines, before hours of work."""
    path = Path(output)
    if output != "-" and (path.is_dir() or not path.parent.is_dir()):
        raise LoadError(f"--output is a file in a folder that exists, or -; got {output!r}")


@contextmanager
def lines(output: str) -> Iterator[IO[bytes]]:
    """`output` open for lines; - is standard output."""
    if output == "-":
        yield sys.stdout.buffer
    else:
        with whole(Path(output)) as file:
            yield file


class Pictures:
    """A folder for PNG files under their keys; or a .png file or -, for one picture alone."""

    def __init__(self, output: str) -> None:
        path = Path(output)
        self.output = output
        self.single = output == "-" or (path.suffix.lower() == ".png" and not path.is_dir())
        self._taken: dict[Path, str] = {}
        if output == "-" and sys.stdout.isatty():
            raise InputError(
                "--output - writes a PNG file to standard output, and that is a terminal; send it "
                "on, as in `vqtok decode codes.jsonl -o - > picture.png`"
            )
        if output != "-" and self.single and not path.parent.is_dir():
            raise LoadError(f"--output {output!r} is in a folder that does not exist")
        if not self.single and path.exists() and not path.is_dir():
            raise LoadError(
                f"--output {output!r} is a file; name a folder, or a .png file for one picture"
            )

    def place(self, key: str) -> Path:
        """The file for a key; an error where it lies outside the folder or is taken.

        The suffix is added, not put in the old one's place: a.jpg and a.webp are two pictures.
        """
        folder = Path(self.output)
        if self.single:
            return folder
        inside = Path(os.path.abspath(folder))
        path = Path(os.path.abspath(folder / key)) if _is_name(key) else inside
        if path.suffix.lower() != ".png":
            path = path.with_name(f"{path.name}.png")
        if not path.parent.is_relative_to(inside):
            raise LoadError(f"the key {key!r} is no place inside {self.output!r}")
        if path in self._taken:
            raise LoadError(
                f"the keys {self._taken[path]!r} and {key!r} would both be written to {str(path)!r}"
            )
        self._taken[path] = key
        return path

    def save(self, picture: Image.Image, path: Path) -> None:
        """Writes a PNG to a place that `place` gave."""
        data = io.BytesIO()
        picture.save(data, format="PNG")
        if self.output == "-":
            sys.stdout.buffer.write(data.getvalue())
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            file.write(data.getvalue())


def _is_name(key: str) -> bool:
    """Whether a file can be called so: JSON strings may hold what no file system takes."""
    try:
        return b"\0" not in os.fsencode(key)
    except UnicodeEncodeError:
        return False

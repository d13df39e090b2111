"""Where results go. A file that is there is whole: it is written beside its place, then moved."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image

from vqtok.commands.sources import SUFFIXES
from vqtok.errors import InputError, LoadError
from vqtok.files import whole
from vqtok.movies import MOVIES, write_movie
from vqtok.pictures import VIDEOS, Pixels

__all__ = ["FORMATS", "Movies", "Pictures", "check_lines", "lines"]

FORMATS = (*(ending[1:] for ending in MOVIES), "png")  # of clips
# What nobody calls a folder.
KINDS = frozenset((*SUFFIXES, *VIDEOS, ".apng", ".flv", ".heic", ".ogv", ".ts", ".wmv"))


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


class _Places:
    """A folder for files under their keys; or one file, for one result alone."""

    def __init__(self, output: str, endings: tuple[str, ...], what: str) -> None:
        path = Path(output)
        self.output = output
        self.single = output == "-" or (path.suffix.lower() in endings and not path.is_dir())
        self._taken: dict[Path, str] = {}
        if output != "-" and self.single and not path.parent.is_dir():
            raise LoadError(f"--output {output!r} is in a folder that does not exist")
        if not self.single and path.exists() and not path.is_dir():
            raise LoadError(
                f"--output {output!r} is a file; name a folder, or a {', '.join(endings)} file for "
                f"one {what}"
            )
        if not self.single and path.suffix.lower() in KINDS and not path.is_dir():
            raise InputError(
                f"--output {output!r} cannot be written: name a {', '.join(endings)} file for one "
                f"{what}, or a folder"
            )

    def _place(self, key: str, ending: str) -> Path:
        """The file for a key; an error where it lies outside the folder or is taken.

        The suffix is added, not put in the old one's place: a.jpg and a.webp are two pictures.
        """
        folder = Path(self.output)
        if self.single:
            return folder
        inside = Path(os.path.abspath(folder))
        path = Path(os.path.abspath(folder / key)) if _is_name(key) else inside
        if path.suffix.lower() != ending:
            path = path.with_name(f"{path.name}{ending}")
        if not path.parent.is_relative_to(inside):
            raise LoadError(f"the key {key!r} is no place inside {self.output!r}")
        if path in self._taken:
            raise LoadError(
                f"the keys {self._taken[path]!r} and {key!r} would both be written to {str(path)!r}"
            )
        self._taken[path] = key
        return path


class Pictures(_Places):
    """A folder for PNG files under their keys; or a .png file or -, for one picture alone."""

    def __init__(self, output: str) -> None:
        super().__init__(output, (".png",), "picture")
        if output == "-" and sys.stdout.isatty():
            raise InputError(
                "--output - writes a PNG file to standard output, and that is a terminal; send it "
                "on, as in `vqtok decode codes.jsonl -o - > picture.png`"
            )

    def place(self, key: str) -> Path:
        """The file for a key; an error where it lies outside the folder or is taken."""
        return self._place(key, ".png")

    def save(self, picture: Image.Image, path: Path) -> None:
        """Writes a PNG to a place that `place` gave."""
        if self.output == "-":
            sys.stdout.buffer.write(_png(picture))
        else:
            _save(picture, path)


class Movies(_Places):
    """A folder for videos under their keys; or a file for one clip alone, whose ending says which.

    form  one of `FORMATS`, in a folder, by default mp4; png is a folder of frames. A clip of one
          frame is a picture, and a .png unless another form was asked for
    """

    def __init__(self, output: str, form: str | None = None) -> None:
        if output == "-":
            raise InputError("--output - takes pictures; a clip goes into a file or a folder")
        super().__init__(output, (*MOVIES, ".png"), "clip")
        if form is not None and form not in FORMATS:
            raise InputError(f"--format is one of {', '.join(FORMATS)}; got {form!r}")
        if form is not None and self.single:
            raise InputError(f"--format is for a folder; the ending of {output!r} says it already")
        self._form = form

    def place(self, key: str, frames: int) -> Path:
        """Where a clip of so many frames goes; an error where that cannot be."""
        if self.single and frames != 1 and Path(self.output).suffix.lower() == ".png":
            raise InputError(
                f"{key!r} is a clip of {frames} frames, and {self.output!r} takes one; name a "
                f"{', '.join(MOVIES)} file, or a folder with --format png"
            )
        if frames == 1:
            return self._place(key, f".{self._form or 'png'}")
        return self._place(key, "" if self._form == "png" else f".{self._form or 'mp4'}")

    def save(self, frames: Iterable[Pixels], path: Path, fps: float | None) -> None:
        """Writes frames (H, W, 3) as they come to a place that `place` gave."""
        ending = path.suffix.lower()
        if ending in MOVIES and self._form != "png":
            with _written(path) as file:
                write_movie(frames, file, fps=fps, kind=ending)
            return
        for number, frame in enumerate(frames):
            picture = Image.fromarray(frame)
            _save(picture, path if ending == ".png" else path / f"{number:06d}.png")


def _save(picture: Image.Image, path: Path) -> None:
    data = _png(picture)
    with _written(path) as file:
        file.write(data)


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """`path` open for writing, in a folder that is made where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            yield file
    except BrokenPipeError:  # of a pipe in the file's place: its reader has gone
        raise
    except OSError as error:
        if isinstance(error, LoadError):
            raise
        blocked = next((above for above in path.parents if above.is_file()), None)
        why = f"{str(blocked)!r} is a file and no folder" if blocked else error.strerror or error
        raise LoadError(f"{str(path)!r} cannot be written: {why}") from error


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()


def _is_name(key: str) -> bool:
    """Whether a file can be called so: JSON strings may hold what no file system takes."""
    try:
        return b"\0" not in os.fsencode(key)
    except UnicodeEncodeError:
        return False

"""Clips that are read while they are sent: memory holds some frames, or a piece of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vqtok.errors import ImageError, InputError, LoadError, VqtokError
from vqtok.pictures import Pixels
from vqtok.readers import ClipReader, Once
from vqtok.serve.wire.headers import DTYPE, SHAPE
from vqtok.serve.wire.media import RAW

if TYPE_CHECKING:
    from vqtok.serve.client.parts import Call

__all__ = ["Body", "FileBody", "FrameBody", "Unread"]

PIECE = 1 << 20  # bytes that are sent at a time, or a frame


class Unread(Exception):
    """A body can't be read to its end; `error` says why."""

    def __init__(self, error: VqtokError) -> None:
        super().__init__(str(error))
        self.error = error


class Body:
    """What a request sends, from its start each time that it is sent.

    headers  that say what it is
    """

    headers: dict[str, str]

    @property
    def spent(self) -> bool:
        """Whether it came by once, and can't be sent again."""
        return False

    async def pieces(self, call: Call) -> AsyncIterator[bytes]:
        """All of it; `call` is where it is read. `Unread` where that fails."""
        found = self._read()
        try:
            while piece := await call(lambda: _next(found)):
                yield piece
        except VqtokError as error:
            raise Unread(error) from error
        finally:
            with suppress(ValueError):  # a thread is reading yet
                found.close()  # type: ignore[attr-defined]  # a generator

    def _read(self) -> Iterator[bytes]:
        raise NotImplementedError


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


class FileBody(Body):
    """A file as it is."""

    def __init__(self, path: Path, media: str, name: str) -> None:
        self.headers = {"content-type": media, "content-length": str(path.stat().st_size)}
        self._path, self._name = path, name

    def _read(self) -> Iterator[bytes]:
        try:
            with open(self._path, "rb") as file:
                yield from _pieces(file)
        except OSError as error:
            raise LoadError(f"{self._name} cannot be read: {error.strerror or error}") from error


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


class FrameBody(Body):
    """A clip's frames, as many as come.

    show  a frame as it is to be sent, and what messages call it -> its pixels
    """

    def __init__(self, reader: ClipReader, show: Callable[[Any, str], Pixels]) -> None:
        self._reader, self._show = reader, show
        height, width = reader.size
        self._size = height, width, 3
        self.headers = {
            "content-type": RAW,
            SHAPE: f"*,{height},{width},3",
            DTYPE: "uint8",
        }
        self._begun = False

    @property
    def spent(self) -> bool:
        """See `Body.spent`."""
        return self._begun and isinstance(self._reader, Once)

    def _read(self) -> Iterator[bytes]:
        self._begun = True
        piece = bytearray()
        for number, frame in enumerate(self._reader):
            pixels = self._show(frame, f"frame {number} of {self._reader.name}")
            self._check(pixels, number)
            piece += pixels.tobytes()
            if len(piece) >= PIECE:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece)

    def _check(self, pixels: Pixels, number: int) -> None:
        if pixels.shape != self._size:
            raise ImageError(
                f"frame {number} of {self._reader.name} is {pixels.shape[1]} wide and "
                f"{pixels.shape[0]} high, the first is {self._size[1]} x {self._size[0]}; the "
                "frames of a clip have one size"
            )
        if not pixels.size:
            raise InputError(f"frame {number} of {self._reader.name} has no pixels")

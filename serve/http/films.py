"""Bodies that bring one clip of any length, and answers that are one: neither is held whole."""

from __future__ import annotations

import math
import tempfile
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from vqtok.movies import MovieWriter
from vqtok.pictures import Pixels
from vqtok.serve.http.exchange import PIECE, Exchange, Room
from vqtok.serve.http.faults import Fault, Headers
from vqtok.serve.http.frames import RawFrames, ReadFrames, Source, wrong_length
from vqtok.serve.http.laying import as_it_is
from vqtok.serve.http.replies import encoded
from vqtok.serve.http.threads import in_thread
from vqtok.serve.wire import Row, Upload
from vqtok.serve.wire import headers as names
from vqtok.serve.wire.files import MOVIES, VIDEOS, kind_of
from vqtok.serve.wire.flowing import FLOWING, opening
from vqtok.serve.wire.pictures import THE_ONE, PictureReader
from vqtok.serve.wire.sniff import is_vague

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vqtok.serve.http.streams import Decoding
    from vqtok.serve.http.work import Work

__all__ = ["Spool", "answer_clip", "begun", "can_flow", "open_headers", "raw_clip", "spooled"]

SIGN = 32  # bytes of a body that say which kind of file it is
ANY = "*"  # of as many frames as come
NONE = 1 << 62


# --- bodies ---------------------------------------------------------------------------------------


def open_headers(x: Exchange) -> tuple[dict[str, str], bool]:
    """A request's headers, and whether a clip of raw pixels does not say how many frames it has.

    Then its shape says that it has one.
    """
    first, _, sides = x.headers.get(names.SHAPE, "").partition(",")
    if first.strip() != ANY:
        return x.headers, False
    return {**x.headers, names.SHAPE: f"1,{sides}"}, True


def raw_clip(work: Work, reader: PictureReader, is_open: bool) -> Source | None:
    """The frames of a body of raw pixels, where it is one clip that does not go into a slot as it
    is; else None."""
    x, served, shape = work.x, work.served, reader.shape
    if shape is None or len(shape) != 4 or reader.count != 1:
        return None
    count, frame = shape[0], shape[1:]
    one = served.facts.chunk_frames(served.settings)
    if not is_open and count <= one and as_it_is(shape, served.prepares):
        return None
    if not is_open:
        _check_length(x, math.prod(shape))
    x.limit = NONE  # frames are counted
    return RawFrames(work, frame, None if is_open else count)


def _check_length(x: Exchange, expected: int) -> None:
    said = x.headers.get("content-length")
    if said is not None and said.isdigit() and int(said) != expected:
        raise wrong_length(int(said), expected)


async def begun(x: Exchange, work: Work) -> bytes:
    """The first bytes of a body that may be a film too long to be held, as far as they are needed
    to tell; what else the limit is of bodies is checked now.
    """
    length = x.headers.get("content-length")
    most = work.shop.settings.max_body
    x.limit = most
    if length is not None and length.isdigit() and int(length) <= most:
        return b""
    if not _may_be_film(x):
        x.check_length()
        return b""
    x.limit = max(most, work.shop.settings.max_film)
    x.check_length()
    found = b""
    while len(found) < SIGN and (piece := await x.read()):
        found += piece
    if not _is_film(found):
        x.limit = most
        x.check_length()
    return found


def _may_be_film(x: Exchange) -> bool:
    media = x.headers.get("content-type", "").partition(";")[0].strip().lower()
    return is_vague(x.headers) or media.startswith("video/") or media == "image/gif"


def _is_film(start: bytes) -> bool:
    kind = kind_of(start)
    return kind in VIDEOS or kind == "gif"


@contextmanager
def spooled(work: Work) -> Iterator[Spool]:
    """A temporary file, which is gone afterwards."""
    spool = Spool(work.shop.disk, work.shop.settings.max_film)
    try:
        yield spool
    finally:
        spool.close()


class Spool:
    """A temporary file, which may take so many bytes; all of a process share a room.

    Whatever reads and writes it takes it for a file.
    """

    def __init__(self, room: Room, most: int) -> None:
        self._room, self._most = room, most
        self._taken = 0
        with _disk():
            self.file: IO[bytes] = tempfile.TemporaryFile(prefix="vqtok-")  # noqa: SIM115

    async def fill(self, x: Exchange, start: bytes) -> None:
        """With a body, whose first bytes are these."""
        piece = start
        while piece:
            with _disk():
                self.file.write(piece)
            self.count()
            piece = await x.read()

    def count(self) -> None:
        """Takes room for what the file has grown by; a `Fault` where there is none."""
        size = self.file.seek(0, 2)
        if size > self._most:
            raise Fault("too_large", f"the film has more than {self._most:,} bytes")
        more, self._taken = size - self._taken, size
        self._room.take(more)

    def source(self, work: Work) -> Source:
        """The frames of the film that it holds."""
        data: Any = self.file
        return ReadFrames(work, Upload(data, THE_ONE, clip=True))

    def close(self) -> None:
        self._room.give(self._taken)
        self.file.close()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Fault(
            "too_large",
            f"long films are kept in temporary files, and there is no room for one here: "
            f"{error.strerror}",
        ) from error


# --- answers --------------------------------------------------------------------------------------


def can_flow(media: str) -> bool:
    """Whether an answer in this medium need not be held."""
    return media in FLOWING or media in MOVIES


async def answer_clip(
    work: Work,
    frames: Decoding,
    row: Row,
    media: str,
    fps: float,
    more: Headers = (),
) -> None:
    """Sends a clip's frames; the answer begins when the first of them are there."""
    start, told = opening(row, frames.shape, work.served.head, media)
    headers = [*encoded(told), *more]
    if media in MOVIES:
        await _answer_film(work, frames, MOVIES[media], fps, headers)
        return
    first = await frames.next()
    length = len(start) + math.prod(frames.shape)
    await work.x.answer_made(200, length, _pieces(start, first, frames), headers)


async def _pieces(
    start: bytes, first: Pixels | None, frames: Decoding
) -> AsyncIterator[bytes | memoryview]:
    yield start
    chunk = first
    while chunk is not None:
        yield memoryview(chunk).cast("B")  # type: ignore[arg-type]  # arrays are buffers
        chunk = await frames.next()


async def _answer_film(
    work: Work, frames: Decoding, kind: str, fps: float, headers: Headers
) -> None:
    """A film is complete, in a file, before it is sent: only then its length is known."""
    threads = work.shop.threads
    with spooled(work) as spool, MovieWriter(spool.file, fps=fps, kind=kind) as movie:
        while (chunk := await frames.next()) is not None:
            await in_thread(threads, _write, movie, chunk)
            spool.count()
        await in_thread(threads, movie.finish)
        length = spool.file.seek(0, 2)
        spool.file.seek(0)
        pieces = iter(lambda: spool.file.read(PIECE), b"")
        await work.x.answer_pieces(200, length, pieces, headers)


def _write(movie: MovieWriter, chunk: Pixels) -> None:
    for frame in chunk:
        movie.push(frame)

"""Whether a video file is all there, by what its container says of its length in bytes.

A decoder gives what has come of a file that was cut short, and ends as if that were all. Durations
do not tell: the last frame may be shown long, and sound may go on behind it. Sizes do:

.mkv .webm  the segment's
.mp4 .mov   those of the boxes that frames and their tables lie in
.avi        those of its RIFF chunks
.gif        those of its blocks, behind which a byte ends the file

What is written as it comes, such as a live recording, has no sizes, or those of its pieces; .mpg
and .ts have none at all. Where such a file should end nobody can tell: it is taken as it is.
"""

from __future__ import annotations

import io
from typing import IO, Literal

from vqtok.errors import ImageError

__all__ = ["check_complete"]

EBML, SEGMENT = 0x1A45DFA3, 0x18538067
FIRST_BOXES = (b"free", b"ftyp", b"mdat", b"moov", b"skip", b"styp", b"wide")
# Some cameras append bytes of their own, which are no boxes whatever they say of their size.
BOXES = (b"mdat", b"moof", b"moov")
PICTURE, EXTENSION = 0x2C, 0x21
NOT_KNOWN = 0xFFFFFFFF  # what programs that cannot go back write as the size of a RIFF chunk


def check_complete(file: IO[bytes], name: str) -> None:
    """Raises where a file open for reading in binary was cut short; errors call it `name`."""
    there = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    if head.startswith(b"GIF8"):
        if not _has_trailer(file):
            raise ImageError(f"{name} is cut short: the byte that ends a GIF is not there")
        return
    said = _said(file, head, there)
    if said > there:
        raise ImageError(
            f"{name} is cut short: there are {there} bytes of it, and by its headers {said} or more"
        )


def _said(file: IO[bytes], head: bytes, there: int) -> int:
    """How many bytes there are by the headers; 0 where they do not say."""
    try:
        if head.startswith(EBML.to_bytes(4, "big")):
            return _segment(file, there)
        if head[4:8] in FIRST_BOXES:
            return _boxes(file, there)
        if head.startswith(b"RIFF") and head.endswith(b"AVI "):
            return _chunks(file, there)
    except EOFError:  # within a header: FFmpeg has words for that
        pass
    return 0


def _segment(file: IO[bytes], there: int) -> int:
    """Of Matroska: elements with their number and size, of which the segment is the last."""
    while file.tell() < there:
        number = _element(file, marked=True)
        size = _element(file, marked=False)
        if number == SEGMENT:
            return 0 if size is None else file.tell() + size
        file.seek(size or 0, io.SEEK_CUR)
    return 0


def _element(file: IO[bytes], *, marked: bool) -> int | None:
    """A number, whose leading zeros say how many bytes it has; None where all bits are ones.

    marked  whether the bit behind the zeros belongs to the number
    """
    first = _number(file, 1)
    more = 8 - first.bit_length()
    ones = (1 << 7 * (more + 1)) - 1
    value = (first << 8 * more) | (_number(file, more) if more else 0)
    if not marked and value & ones == ones:
        return None
    return value if marked else value & ones


def _boxes(file: IO[bytes], there: int) -> int:
    """Of MP4: the end of the last box."""
    at = 0
    while at < there:
        file.seek(at)
        size, kind = _number(file, 4), file.read(4)
        if size == 1:
            size = _number(file, 8)
        if size < 8:  # 0: as far as the file goes
            return 0
        at += size
        if at > there:
            return at if kind in BOXES else 0
    return at


def _chunks(file: IO[bytes], there: int) -> int:
    """Of AVI: the end of the last chunk; a file longer than a gigabyte has several."""
    at = end = 0
    while at < there:
        file.seek(at)
        kind, size = file.read(4), _number(file, 4, "little")
        if kind != b"RIFF" or size in (0, NOT_KNOWN):
            return 0
        end = at + 8 + size
        at = end + size % 2
    return end


def _has_trailer(file: IO[bytes]) -> bool:
    """Whether the blocks of a GIF go on to its end."""
    try:
        file.seek(10)
        _skip_colours(file, _number(file, 1), 2)
        while (kind := _number(file, 1)) in (PICTURE, EXTENSION):
            if kind == PICTURE:
                file.seek(8, io.SEEK_CUR)
                _skip_colours(file, _number(file, 1), 0)
            file.seek(1, io.SEEK_CUR)
            while size := _number(file, 1):
                file.seek(size, io.SEEK_CUR)
    except EOFError:
        return False
    return True  # or something else is wrong with it than its length


def _skip_colours(file: IO[bytes], flags: int, more: int) -> None:
    """A table of as many colours as the flags say, and some bytes before it."""
    table = 3 << (flags % 8 + 1) if flags & 0x80 else 0
    file.seek(more + table, io.SEEK_CUR)


def _number(file: IO[bytes], count: int, order: Literal["little", "big"] = "big") -> int:
    read = file.read(count)
    if len(read) < count:
        raise EOFError
    return int.from_bytes(read, order)

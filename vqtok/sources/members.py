"""Where the files in a tar lie, found several times as fast as `tarfile` does."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from vqtok.errors import LoadError
from vqtok.sources.remote import Place, Remote

__all__ = ["Member", "members"]

BLOCK = 512
FILES = (b"0", b"\0", b"7")
ABOUT_NEXT = (b"x", b"X", b"L", b"K")
NO_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
AHEAD = 1 << 22  # bytes of a tar on a server that one request brings
EMPTY = bytes(BLOCK)


class Member(NamedTuple):
    """A file in a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


class _Header(NamedTuple):
    name: bytes
    kind: bytes
    size: int


def members(path: Place) -> Iterator[Member]:
    """All files of a tar that is not compressed (USTAR, GNU or PAX), in order."""
    opened = path.open("rb", AHEAD) if isinstance(path, Remote) else path.open("rb")
    with opened as file:
        end = file.seek(0, os.SEEK_END)
        at, said = 0, dict[bytes, bytes]()  # what stands before a header and is about its file
        while (block := _block(file, at, path)) not in (EMPTY, b""):
            here = at
            try:
                header = _header(block, said)
                data, at = at + BLOCK, at + BLOCK + -(-header.size // BLOCK) * BLOCK
                if data + header.size > end:
                    raise LoadError(f"'{path}' cannot be read as a tar: unexpected end of data")
                if header.kind in ABOUT_NEXT:
                    said |= _extended(file.read(header.size), header.kind)
                    continue
            except ValueError:
                raise _damaged(here, path) from None
            if header.kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in said):
                raise _sparse(header.name, path)
            if header.kind in FILES:
                name = header.name.decode("utf-8", "backslashreplace")
                yield Member(name, data, header.size)
            said = {}


def _block(file: IO[bytes], at: int, path: Place) -> bytes:
    file.seek(at)
    block = file.read(BLOCK)
    if 0 < len(block) < BLOCK or not (block or at):
        raise _damaged(at, path)
    return block


def _header(block: bytes, said: dict[bytes, bytes]) -> _Header:
    """What a block says, and what was said before it; a ValueError where its sum is wrong."""
    stated = _number(block[148:156])
    summed = block[:148] + b"        " + block[156:]
    # The low half of this checksum is one more than the sum of the bytes, modulo 65521.
    if zlib.adler32(summed) & 0xFFFF != (stated + 1) % 65521 and _signed(summed) != stated:
        raise ValueError
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    kind, size = block[156:157], _number(block[124:136])
    if kind == b"\0" and name.endswith(b"/"):  # before there were kinds
        kind = b"5"
    if kind not in ABOUT_NEXT and said:
        name, size = said.get(b"path", name), int(said.get(b"size", size))
    return _Header(name, kind, 0 if kind in NO_DATA else size)


def _number(field: bytes) -> int:
    """Octal digits, or where those are too few, the bytes of the number."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.split(b"\0", 1)[0].strip() or b"0", 8)


def _signed(block: bytes) -> int:
    """The sum that some old programs made."""
    return sum(byte - 256 if byte > 127 else byte for byte in block)


def _extended(data: bytes, kind: bytes) -> dict[bytes, bytes]:
    """A long name of GNU's, or what the records "length key=value" of PAX say."""
    if kind == b"L":
        return {b"path": data.split(b"\0", 1)[0]}
    if kind == b"K":  # where a link leads
        return {}
    said = dict[bytes, bytes]()
    while data:
        length = int(data.partition(b" ")[0])
        if length < 1:
            raise ValueError
        key, _, value = data[:length].partition(b" ")[2].partition(b"=")
        said[key] = value[:-1]
        data = data[length:]
    return said


def _sparse(name: bytes, path: Place) -> LoadError:
    return LoadError(
        f"'{path}' holds {name.decode('utf-8', 'backslashreplace')!r} as a sparse file; pack it "
        "without --sparse"
    )


def _damaged(at: int, path: Place) -> LoadError:
    where = f"is damaged at byte {at}" if at else "cannot be read as a tar: it begins like no tar"
    return LoadError(f"'{path}' {where}")

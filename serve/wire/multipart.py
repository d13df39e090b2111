"""multipart/form-data as it arrives: RFC 7578, parts that are files, memory bounded.

No framework's parser is used: none is among what serving needs, and clients need the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from vqtok.serve.wire.errors import WireError

__all__ = ["Part", "Parts"]

MOST_HEADERS = 8192  # bytes of the headers of one part, and of what stands before the first
_FILENAME = re.compile(r'filename="?([^";]*)"?', re.I)
_ENCODED = re.compile(r"filename\*=([^';\"]*)'[^';\"]*'([^;\"]*)", re.I)  # RFC 5987
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.A)


class Part(NamedTuple):
    """One part.

    filename  of a file, "" where none is told; None of a field that is none
    media     its Content-Type, as it stands; "" where it has none
    data      all of it
    """

    filename: str | None
    media: str
    data: bytes


class Parts:
    """Takes chunks of a body, gives the parts that are complete."""

    def __init__(self, boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise WireError(
                "bad_multipart",
                "multipart/form-data needs boundary=..., of 1 to 70 letters, in its content-type; "
                f"got {boundary!r:.80}",
            )
        self._mark = b"\r\n--" + boundary.encode()
        # The first boundary may stand at the very start, with no line before it.
        self._buffer = bytearray(b"\r\n")
        self._searched = 0
        self._step: Callable[[], Iterator[Part] | None] | None = self._preamble
        self._filename: str | None = None
        self._media = ""

    @property
    def done(self) -> bool:
        """Whether the last boundary was there."""
        return self._step is None

    def feed(self, chunk: bytes | memoryview) -> Iterator[Part]:
        """Those that are complete with this chunk, one at a time."""
        if self._step is not None:
            self._buffer += chunk
        while self._step is not None:
            found = self._step()
            if found is None:
                return
            yield from found
        self._buffer.clear()

    def end(self) -> None:
        """Raises where the body ended before its last boundary."""
        if not self.done:
            raise WireError(
                "truncated",
                f"the form ends without its last boundary, {self._mark[2:].decode()}--",
            )

    # Each step gives the parts that it completed and sets the next one; None: it needs more.

    def _preamble(self) -> Iterator[Part] | None:
        if not self._to_mark():
            if len(self._buffer) > MOST_HEADERS:
                raise self._wrong("does not begin with its boundary")
            return None
        self._take_to_mark()
        self._step = self._line
        return iter(())

    def _line(self) -> Iterator[Part] | None:
        """What follows a boundary: the end, or a new line and headers."""
        end = self._buffer.find(b"\r\n")
        if self._buffer.startswith(b"--"):
            self._step = None
        elif end < 0:
            if len(self._buffer) > MOST_HEADERS:
                raise self._wrong("has a boundary that no new line follows")
            return None
        elif self._buffer[:end].strip(b" \t"):
            raise self._wrong("has a boundary that no new line follows")
        else:
            del self._buffer[:end]  # the line's end stays, for headers that are none
            self._step = self._headers
        return iter(())

    def _headers(self) -> Iterator[Part] | None:
        end = self._buffer.find(b"\r\n\r\n", 0, MOST_HEADERS)
        if end < 0:
            if len(self._buffer) > MOST_HEADERS:
                raise self._wrong(f"has a part with more than {MOST_HEADERS} bytes of headers")
            return None
        lines = self._buffer[:end].decode("utf-8", "replace").split("\r\n")
        del self._buffer[
            : end + 2
        ]  # an empty part's boundary begins with the line's end that stays
        fields = {name.strip().lower(): value.strip() for name, _, value in map(_field, lines)}
        self._media = fields.get("content-type", "")
        self._filename = _filename(fields.get("content-disposition", ""), bool(self._media))
        self._searched = 0
        self._step = self._data
        return iter(())

    def _data(self) -> Iterator[Part] | None:
        if not self._to_mark():
            return None
        data = self._take_to_mark(2)
        self._step = self._line
        return iter([Part(self._filename, self._media, data)])

    def _to_mark(self) -> bool:
        """Whether the next boundary has come; what was searched is not searched again."""
        at = self._buffer.find(self._mark, self._searched)
        self._searched = at if at >= 0 else max(0, len(self._buffer) - len(self._mark) + 1)
        return at >= 0

    def _take_to_mark(self, start: int = 0) -> bytes:
        data = bytes(memoryview(self._buffer)[start : self._searched])
        del self._buffer[: self._searched + len(self._mark)]
        self._searched = 0
        return data

    def _wrong(self, what: str) -> WireError:
        return WireError("bad_multipart", f"the form {what}")


def _filename(disposition: str, is_file: bool) -> str | None:
    """See `Part`; that which may have any letters comes first."""
    encoded = _ENCODED.search(disposition)
    if encoded:
        latin = encoded[1].strip().lower() == "iso-8859-1"
        return unquote(encoded[2].strip(), "latin-1" if latin else "utf-8", "replace")
    plain = _FILENAME.search(disposition)
    return plain[1] if plain else ("" if is_file else None)


def _field(line: str) -> tuple[str, str, str]:
    return line.partition(":")

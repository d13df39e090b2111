"""Connections: heads of requests are bounded, for uvicorn's parser keeps whatever comes before a
body; and bodies are copied no more often than needs be.

Against clients that send theirs a byte at a time a proxy is needed; this is only about memory.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["MOST", "BoundedHeads", "Connection"]

MOST = 1 << 16  # bytes of a request's path and headers, and of its trailers
PIECE = 1 << 19  # bytes that are read at once
TOO_LONG = f"the headers have more than {MOST:,} bytes"
ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)


class _TooLong(Exception):
    """Ends the parsing."""


class BoundedHeads(HttpToolsProtocol):
    """A connection that is closed with 431 once a head is too long."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._size = 0  # of the head that is read
        self._silent = 0  # bytes since anything was understood
        self._is_too_long = False

    def data_received(self, data: bytes | memoryview) -> None:
        self._silent += len(data)
        super().data_received(data)  # type: ignore[arg-type]  # httptools takes any buffer
        if self._silent > MOST and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        held: bytes | bytearray = self.cycle.body
        if not held:
            # What uvicorn adds to no bytes, and hands on as bytes, it copies neither time.
            self.cycle.body = b""  # type: ignore[assignment]
        elif isinstance(held, bytes):
            self.cycle.body = bytearray(held)  # to which a thousand small pieces can be added
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._silent = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._is_too_long:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _count(self, length: int) -> None:
        self._silent = 0
        self._size += length
        if self._size > MOST:
            self._is_too_long = True
            raise _TooLong(TOO_LONG)

    def _refuse(self) -> None:
        text = TOO_LONG.encode()
        self.transport.write(ANSWER % (len(text), text))
        self.transport.close()


class _Buffer(threading.local):
    """What all connections of a loop read into: the parser copies what is to stay."""

    def __init__(self) -> None:
        self.room = memoryview(bytearray(PIECE))


BUFFER = _Buffer()


class Connection(asyncio.BufferedProtocol):
    """Other protocols are handed a copy of each piece that is read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._heads = BoundedHeads(*args, **options)
        self._room = BUFFER.room

    def connection_made(self, transport: Any) -> None:
        self._heads.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._heads.data_received(self._room[:nbytes])

    def eof_received(self) -> None:
        self._heads.eof_received()

    def pause_writing(self) -> None:
        self._heads.pause_writing()

    def resume_writing(self) -> None:
        self._heads.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heads.connection_lost(exc)

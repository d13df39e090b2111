"""Heads of requests, bounded: uvicorn's parser keeps whatever comes before a body.

Against clients that send theirs a byte at a time a proxy is needed; this is only about memory.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["MOST", "BoundedHeads"]

MOST = 1 << 16  # bytes of a request's path and headers, and of its trailers
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

    def data_received(self, data: bytes) -> None:
        self._silent += len(data)
        super().data_received(data)
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

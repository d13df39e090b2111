"""Requests that tests send: pixels, files, and bytes straight into a socket."""

from __future__ import annotations

import io
import socket
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["RAW", "WRONG", "connected", "jpeg", "png", "posted", "raw", "talk", "told"]

RAW = "application/octet-stream"
JSON = "application/json"
Pixels = npt.NDArray[np.uint8]

# (verb, Content-Type, body, status and word of the answer): what people get wrong.
WRONG = (
    ("encode", JSON, b'{"images": [', (400, "bad_json")),
    ("encode", JSON, b"", (400, "empty")),
    ("encode", JSON, b'{"picture": ["aGk="]}', (400, "missing_part")),
    ("encode", JSON, b'{"images": ["%%%"]}', (400, "not_a_picture")),
    ("encode", JSON, b"[1, 2, 3]", (400, "bad_json")),
    ("encode", JSON, bytes(range(256)), (400, "bad_json")),
    ("decode", JSON, b'{"codes": [[1, 2], [3]]}', (422, "wrong_shape")),
    ("decode", JSON, b'{"codes": [[1.5]]}', (422, "not_codes")),
    ("encode", "text/plain", b"x", (415, "unsupported_media_type")),
    ("encode", "image/png", b"not a picture", (400, "not_a_picture")),
    ("encode", "image/png", b"", (400, "empty")),
    ("encode", RAW, b"x", (400, "missing_header")),
    ("reconstruct", "application/x-npy", b"\x93NUMPY", (400, "bad_npy")),
)


def raw(pixels: Pixels, **headers: str) -> dict[str, Any]:
    """Keyword arguments of `httpx.post` for pixels as they are."""
    shape = ",".join(map(str, pixels.shape))
    named = {"content-type": RAW, "x-vqtok-shape": shape, "x-vqtok-dtype": "uint8", "accept": RAW}
    return {
        "content": pixels.tobytes(),
        "headers": named | {name.replace("_", "-"): text for name, text in headers.items()},
    }


def png(pixels: Pixels) -> bytes:
    """A file without loss."""
    return _file(pixels, "PNG")


def jpeg(pixels: Pixels) -> bytes:
    """A file with loss."""
    return _file(pixels, "JPEG")


def _file(pixels: Pixels, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def told(response: Any) -> tuple[int, str, str]:
    """Status, word and sentence of an answer that is an error."""
    error = response.json()["error"]
    assert error["status"] == response.status_code
    assert error["request_id"] == response.headers["x-request-id"]
    return error["status"], error["code"], error["message"]


def connected(url: str, wait: float = 10.0) -> socket.socket:
    """A connection to a server."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=wait)


def posted(body: bytes, shape: str, *more: str, length: int | None = None) -> bytes:
    """Raw pixels to encode, as they go into a socket; `more` are lines of its head."""
    lines = (
        "POST /v1/encode HTTP/1.1",
        "host: x",
        f"content-type: {RAW}",
        f"accept: {RAW}",
        f"x-vqtok-shape: {shape}",
        f"content-length: {len(body) if length is None else length}",
        *more,
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def talk(url: str, *pieces: bytes, wait: float = 5.0) -> bytes:
    """Bytes into a socket, and all that comes back until the server closes or `wait` is over."""
    with connected(url, wait) as connection:
        for piece in pieces:
            connection.sendall(piece)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except TimeoutError:
            pass
        return found

"""Requests that tests send: pixels, files, and bytes straight into a socket."""

from __future__ import annotations

import io
import socket
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["RAW", "jpeg", "png", "raw", "talk", "told"]

RAW = "application/octet-stream"
Pixels = npt.NDArray[np.uint8]


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


def talk(url: str, *pieces: bytes, wait: float = 5.0) -> bytes:
    """Bytes into a socket, and all that comes back until the server closes or `wait` is over."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=wait) as connection:
        for piece in pieces:
            connection.sendall(piece)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except TimeoutError:
            pass
        return found

"""Bodies as people send them to a server of tokens."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from vqtok.serve.wire import Limits, Space
from vqtok.types import Codes, Fingerprint

LIMITS = Limits(max_body=100_000, max_pixels=1000, max_images=4, max_frames=5)
PRINT = Fingerprint(*(digit * 64 for digit in "abcd"))
PNG, JPEG, WEBP = "image/png", "image/jpeg", "image/webp"
JSON, NPY, RAW = "application/json", "application/x-npy", "application/octet-stream"
SAFETENSORS = "application/safetensors"


def noise(*shape: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def png(pixels: Any = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(2, 3, 3) if pixels is None else pixels).save(file, "PNG")
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def form(*parts: bytes, end: bytes = b"\r\n--b--\r\n") -> tuple[dict[str, str], bytes]:
    whole = b"".join(b"\r\n--b\r\n" + part for part in parts)
    return {"content-type": "multipart/form-data; boundary=b"}, whole[2:] + end


def part(data: bytes, media: str = "image/png", filename: str = "cat.png") -> bytes:
    head = f'Content-Disposition: form-data; name="i"; filename="{filename}"\r\n'
    return (head + (f"Content-Type: {media}\r\n" if media else "") + "\r\n").encode() + data


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def jsoned(**fields: Any) -> tuple[dict[str, str], bytes]:
    return {"content-type": JSON}, json.dumps(fields).encode()


def raw(shape: str, **more: str) -> dict[str, str]:
    return {"content-type": RAW, "x-vqtok-shape": shape, **more}


def space(**changes: Any) -> Space:
    return Space(16, **{"codebook": PRINT.codebook, "latent_channels": 4, **changes})


def codes_of(ids: Any, space: Space, **changes: Any) -> Codes:
    array = np.array(ids)[None]
    sizes = np.zeros((1, 2 + space.video), np.int32)
    whole = {"codebook": space.codebook, "depth": space.depth, "sizes": sizes, **changes}
    return Codes(array, codebook_size=space.codebook_size, **whole)

"""Bodies that are nearly right, or nothing at all: no 5xx, no hang, every slot free afterwards."""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from serve_server import Served, serving
from serve_stubs import StubEngine, picture, stub_facts
from wire_bodies import npy

PATIENCE = 20.0  # seconds for one answer
CLIENTS = 4
SIZE = 32  # pixels a side
INTERESTING = (
    b"\0",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"-1",
    b"9" * 31,
    b"[" * 40,
    b"\r\n",
    b"NaN",
)
HOSTILE_HEADERS = (
    "-1,2",
    "9999999999,9999999999",
    "0",
    "1e9",
    "",
    "2,2",
    "2,32,32,3",
    "\u00e9",
    "x" * 300,
)


class Sent(NamedTuple):
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes


def file(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(1, (SIZE, SIZE))).save(stream, kind)
    return stream.getvalue()


def form(*files: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="i"; filename="a.png"\r\n'
    parts = [head + b"Content-Type: image/png\r\n\r\n" + data + b"\r\n" for data in files]
    return b"".join(parts) + b"--b--\r\n"


def pictures(video: bool) -> Iterator[tuple[dict[str, str], bytes]]:
    """Valid bodies of every medium that brings pictures."""
    for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff"):
        yield {"content-type": f"image/{kind}"}, file(kind)
    pixels = np.stack([picture(seed, (SIZE, SIZE)) for seed in range(2)])
    shape = {"x-vqtok-shape": f"2,{SIZE},{SIZE},3", "x-vqtok-dtype": "uint8"}
    yield {"content-type": "application/octet-stream", **shape}, pixels.tobytes()
    yield {"content-type": "application/x-npy"}, npy(pixels)
    yield {"content-type": "application/safetensors"}, safetensors.numpy.save({"pixels": pixels})
    text = base64.b64encode(file("png")).decode()
    yield {"content-type": "application/json"}, json.dumps({"images": [text, text]}).encode()
    if video:
        yield {"content-type": "application/json"}, json.dumps({"frames": [text] * 4}).encode()
    yield {"content-type": "multipart/form-data; boundary=b"}, form(file("png"), file("png"))


def tokens(video: bool) -> Iterator[tuple[dict[str, str], bytes]]:
    """Valid bodies of every medium that brings codes or latents."""
    grid = (1, 2, 2) if video else (2, 2)
    codes = np.arange(8, dtype=np.uint16).reshape(2, 2, 2).reshape(2, *grid)
    latents = np.ones((2, 2, *grid), np.float32)
    for array in (codes, latents):
        yield {"content-type": "application/x-npy"}, npy(array)
        shape = {
            "x-vqtok-shape": ",".join(map(str, array.shape)),
            "x-vqtok-dtype": array.dtype.name,
        }
        yield {"content-type": "application/octet-stream", **shape}, array.tobytes()
    said = {"schema": "vqtok-wire/1", "codebook_size": "4096", "status": "200,200"}
    tensors = {"codes": codes, "sizes": np.array([[4, 32, 32][not video :]] * 2, np.int32)}
    yield {"content-type": "application/safetensors"}, safetensors.numpy.save(tensors, said)
    one = {"codes": codes[0].tolist(), "codebook": "2" * 64}
    yield {"content-type": "application/json"}, json.dumps(one).encode()
    several = {"pictures": [one, {"latents": latents[0].tolist()}, {"error": {"status": 500}}]}
    yield {"content-type": "application/json"}, json.dumps(several).encode()


def valid() -> list[Sent]:
    """Every medium to every model and path."""
    found = []
    for name, video in (("stub", False), ("clips", True), ("any", False)):
        base = f"/v1/models/{name}"
        for headers, body in pictures(video):
            found.append(Sent(f"{base}/encode", headers, body))
            found.append(Sent(f"{base}/encode?output=latents&format=npy", headers, body))
            found.append(Sent(f"{base}/reconstruct", headers, body))
        found += [Sent(f"{base}/decode", headers, body) for headers, body in tokens(video)]
    return found


VALID = valid()


def mutated(rng: random.Random) -> Sent:
    """A valid request with a few things changed; now and then nothing but noise."""
    path, headers, body = rng.choice(VALID)
    if rng.random() < 0.05:
        return Sent(path, headers, rng.randbytes(rng.randrange(200)))
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        _damage(rng, data)
    if rng.random() < 0.2:
        headers = _with_other_headers(rng, headers)
    return Sent(path, headers, bytes(data))


def _damage(rng: random.Random, data: bytearray) -> None:
    # Most of what a format says stands at its beginning.
    at = min(rng.randrange(len(data) + 1), rng.randrange(1 << rng.randrange(3, 14)))
    match rng.randrange(6):
        case 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        case 1:
            del data[at:]
        case 2:
            del data[at : at + rng.randrange(1, 9)]
        case 3:
            data[at:at] = rng.choice(INTERESTING)
        case 4:
            data[at : at + 8] = rng.randbytes(8)
        case _:
            other = rng.choice(VALID).body
            data[at:] = other[at:]


def _with_other_headers(rng: random.Random, headers: dict[str, str]) -> dict[str, str]:
    changed = {**headers, **(rng.choice(VALID).headers if rng.random() < 0.5 else {})}
    name = rng.choice(("shape", "dtype", "sizes", "scales", "status", "codebook", "fingerprint"))
    return {**changed, f"x-vqtok-{name}": rng.choice(HOSTILE_HEADERS)}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    engines = {
        "stub": StubEngine(stub_facts(size=SIZE)),
        "clips": StubEngine(stub_facts("clips", size=SIZE, video=True)),
        "any": StubEngine(stub_facts("any", size=None)),
    }
    limits = {"max_pixels": 100_000, "max_area": 16_384, "max_images": 8, "max_frames": 8}
    with serving(engines, slots=8, max_body=1_000_000, **limits) as found:
        yield found


def all_free(served: Served) -> bool:
    until = time.monotonic() + PATIENCE
    while not served.free() and time.monotonic() < until:
        time.sleep(0.02)
    return served.free()


def sent(client: httpx.Client, request: Sent) -> httpx.Response:
    path, headers, body = request
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    return client.post(path, headers=encoded, content=body)


def test_what_is_mutated_is_good_before(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        answers = [(one, sent(client, one)) for one in VALID]
    bad = [(*one[:2], got.text[:300]) for one, got in answers if got.status_code != 200]
    assert bad == []


def fuzz(served: Served, seed: int, count: int) -> Counter[int]:
    """How often which status was answered."""
    found: Counter[int] = Counter()
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        for number in range(count):
            request = mutated(random.Random(seed * 1_000_000 + number))
            answer = sent(client, request)
            assert answer.status_code < 500, (seed, number, request, answer.text)
            assert answer.headers["x-request-id"]
            if answer.status_code != 200:
                error = answer.json()["error"]
                assert error["status"] == answer.status_code
                assert error["message"]
            found[answer.status_code] += 1
    return found


@pytest.mark.parametrize(
    "count", [100, pytest.param(2_500, marks=pytest.mark.slow)], ids=["400", "10000"]
)
def test_mutated_bodies(served: Served, count: int) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = sum(pool.map(lambda seed: fuzz(served, seed, count), range(CLIENTS)), Counter())
    assert found.total() == CLIENTS * count
    assert {200, 400, 422} <= set(found)
    assert all_free(served)


def test_bodies_that_break_off(served: Served) -> None:
    """A client that promises more than it sends, and leaves."""
    address = urlsplit(served.url)
    for path, headers, body in VALID[::7]:
        lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body) + 100}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with socket.create_connection((address.hostname, address.port), PATIENCE) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    assert all_free(served)

"""A small server for the page: the same JSON, and tokenizers whose codes are colours."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["KINDS", "SIDE", "Fake", "Fault", "facts_of", "serving"]

SIDE, CELL = 128, 16
Pixels = npt.NDArray[np.uint8]


# --- a tokenizer whose codes are the colours of blocks ----------------------------------


def means(pixels: Pixels, rows: int, cols: int) -> npt.NDArray[np.float64]:
    """(H, W, 3) -> (rows, cols, 3)."""
    height, width = pixels.shape[0] // rows, pixels.shape[1] // cols
    return pixels.reshape(rows, height, cols, width, 3).mean((1, 3))


def ids_of(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Two bits a channel."""
    red, green, blue = np.moveaxis((colours // 64).astype(int), -1, 0)
    return red << 4 | green << 2 | blue


def colours_of(ids: Any) -> npt.NDArray[np.float64]:
    ids = np.asarray(ids)
    return np.stack([ids >> 4, ids >> 2 & 3, ids & 3], -1) * 64.0 + 32


def painted(colours: npt.NDArray[np.float64], side: int = SIDE) -> npt.NDArray[np.float64]:
    rows, cols = colours.shape[:2]
    return colours.repeat(side // rows, 0).repeat(side // cols, 1)


class Blocks:
    """Pictures: a grid of codes."""

    stride, axes, depth, causal = (CELL, CELL), 2, 0, False
    sides = SIDE // CELL

    def encode(self, clip: Pixels) -> dict[str, Any]:
        return {"codes": ids_of(means(clip[0], self.sides, self.sides))}

    def decode(self, codes: Any, picture: dict[str, Any]) -> npt.NDArray[np.float64]:
        return painted(colours_of(codes))[None]


class Deep(Blocks):
    """Two codes a cell: its colour, and what remains."""

    depth = 2

    def encode(self, clip: Pixels) -> dict[str, Any]:
        found = means(clip[0], self.sides, self.sides)
        rest = np.clip((found - colours_of(ids_of(found)) + 32) * 4, 0, 255)
        return {"codes": np.stack([ids_of(found), ids_of(rest)], -1)}

    def decode(self, codes: Any, picture: dict[str, Any]) -> npt.NDArray[np.float64]:
        coarse, fine = np.moveaxis(np.asarray(codes), -1, 0)
        return painted(colours_of(coarse) + colours_of(fine) / 4 - 32)[None]


class Strip(Blocks):
    """A sequence: bands from top to bottom."""

    axes = 1

    def encode(self, clip: Pixels) -> dict[str, Any]:
        return {"codes": ids_of(means(clip[0], 16, 1)[:, 0])}

    def decode(self, codes: Any, picture: dict[str, Any]) -> npt.NDArray[np.float64]:
        return painted(colours_of(codes)[:, None])[None]


class Scales(Blocks):
    """Several grids, coarse to fine, one after another."""

    axes, scales = 1, ((1, 1), (2, 2), (4, 4), (8, 8))

    def encode(self, clip: Pixels) -> dict[str, Any]:
        codes = [ids_of(means(clip[0], *scale)).ravel() for scale in self.scales]
        return {"codes": np.concatenate(codes), "scales": self.scales}

    def decode(self, codes: Any, picture: dict[str, Any]) -> npt.NDArray[np.float64]:
        cuts = np.cumsum([height * width for height, width in self.scales])[:-1]
        parts = np.split(np.asarray(codes), cuts)
        grids = zip(parts, picture["scales"], strict=True)
        return np.mean([painted(colours_of(ids.reshape(s))) for ids, s in grids], 0)[None]


class Clips(Blocks):
    """Clips: a grid for every four frames."""

    stride, axes = (4, CELL, CELL), 3

    def encode(self, clip: Pixels) -> dict[str, Any]:
        grids = [ids_of(means(frame, self.sides, self.sides)) for frame in clip[::4]]
        return {"codes": np.stack(grids)}

    def decode(self, codes: Any, picture: dict[str, Any]) -> npt.NDArray[np.float64]:
        frames = [painted(colours_of(grid)) for grid in codes for _ in range(4)]
        return np.stack(frames)[: picture["size"][0]]


KINDS = {"blocks": Blocks, "deep": Deep, "strip": Strip, "scales": Scales, "clips": Clips}


def facts_of(name: str) -> dict[str, Any]:
    kind = KINDS[name]
    return {
        "name": name,
        "tokenizer": name,
        "fingerprint": {"schema": "vqtok-fp/1"}
        | dict.fromkeys(("preprocess", "encoder", "codebook", "decoder"), "0123456789abcdef" * 4),
        "precision": "ieee32",
        "check": "exact",
        "preprocess": {"policy": "stretch", "size": SIDE, "resize": "pillow-bicubic"},
        "codebook_size": 64,
        "depth": kind.depth,
        "axes": kind.axes,
        "stride": kind.stride,
        "causal": kind.causal,
        "limits": {"max_area": 1 << 20},
    }


# --- the server -------------------------------------------------------------------------


class Fault(Exception):
    """Status, code and message of an answer."""


@dataclass
class Fake:
    """What it serves and asks for, and what it was asked."""

    models: tuple[str, ...] = ("blocks",)
    key: str = ""
    fault: Fault | None = None
    seen: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        self.seen.append(f"{method} {path}")
        if path in static():
            file = static()[path]
            return Answer(200, file.body, {k.decode(): v.decode() for k, v in file.headers})
        try:
            return self.work(path, headers, body)
        except Fault as fault:
            status, code, message = fault.args
            error = {"status": status, "code": code, "message": message, "request_id": "r-1"}
            return told({"error": error}, status)

    def work(self, path: str, headers: Any, body: bytes) -> Answer:
        if path == "/openapi.json":
            return told(OPENAPI | ({"security": [{"bearer": []}]} if self.key else {}))
        if self.key and headers.get("Authorization") != f"Bearer {self.key}":
            raise Fault(401, "no_key", "this server asks for a key: Authorization: Bearer KEY")
        if path == "/v1/models":
            return told({"default": self.models[0], "models": [facts_of(n) for n in self.models]})
        if self.fault:
            raise self.fault
        *_, name, op = path.partition("?")[0].replace("/v1/", f"/{self.models[0]}/", 1).split("/")
        kind = KINDS[name]()
        return encode(kind, headers, body) if op == "encode" else decode(kind, json.loads(body))


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


def told(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


@cache
def static() -> dict[str, Any]:
    """As the real server has them, with their headers."""
    from vqtok.serve.http.page import files

    return dict(files())


def read(headers: Any, body: bytes) -> Pixels:
    """(t, SIDE, SIDE, 3)."""
    if headers["Content-Type"] == "application/octet-stream":
        shape = [int(side) for side in headers["X-VQTok-Shape"].split(",")]
        return np.frombuffer(body, np.uint8).reshape(shape)
    if headers["Content-Type"].startswith("video/"):
        import av

        with av.open(io.BytesIO(body)) as file:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    try:
        picture = Image.open(io.BytesIO(body)).convert("RGB")
    except OSError:
        raise Fault(400, "not_a_picture", "the picture is no image that can be read") from None
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[None]


def encode(kind: Blocks, headers: Any, body: bytes) -> Answer:
    clip = read(headers, body)
    found = kind.encode(clip)
    frames = (len(clip),) if kind.axes == 3 else ()
    codes = found["codes"]
    grid = codes.shape[:-1] if kind.depth else codes.shape
    row = {"status": 200, "grid": grid, "size": (*frames, SIDE, SIDE), "codes": codes.tolist()}
    row |= {"scales": found["scales"]} if "scales" in found else {}
    answer = told({"schema": "vqtok-wire/1", "codebook_size": 64, "pictures": [row]})
    answer.headers["Server-Timing"] = "decode;dur=1.5, queue;dur=.2, model;dur=12.25"
    return answer


def decode(kind: Blocks, told_codes: dict[str, Any]) -> Answer:
    picture = told_codes["pictures"][0]
    pixels = np.clip(kind.decode(picture["codes"], picture), 0, 255).astype(np.uint8)
    shape = (1, *pixels.shape) if kind.axes == 3 else pixels.shape
    headers = {
        "Content-Type": "application/octet-stream",
        "X-VQTok-Shape": ",".join(map(str, shape)),
        "Server-Timing": "queue;dur=.1, model;dur=9",
    }
    return Answer(200, pixels.tobytes(), headers)


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "vqtok",
        "version": "1.2",
        "description": "Pictures to codes.\n\n- one\n- two",
    },
    "paths": {
        "/v1/encode": {
            "post": {
                "summary": "Pictures to codes",
                "parameters": [
                    {
                        "name": "output",
                        "in": "query",
                        "description": "what comes back",
                        "schema": {"type": "string", "enum": ["codes", "latents"]},
                    }
                ],
                "requestBody": {"content": {"image/jpeg": {}, "image/png": {}}},
                "responses": {"200": {"$ref": "#/components/responses/Codes"}},
            }
        },
        "/v1/models": {"get": {"summary": "What is served", "responses": {}}},
    },
    "components": {
        "responses": {"Codes": {"description": "`codes`", "content": {"application/json": {}}}}
    },
}


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = fake.answer(self.command, self.path, self.headers, body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The servers that serve_http.py compares, each in a process of its own with what that starts.

    python benchmarks/serve_peers.py starlette|litserve|vqtok PORT

All three take pictures of 256 x 256 and answer with codes of two bytes, 16 x 16 of each. The
"model" reads a pixel of every cell, so that what is left is the server.

    starlette   one process: the body, a decoder in threads, one task that gathers what waits for
                the model in a thread
    litserve    LitServe as its guide shows it: bytes in, decoded in the worker, batches of up to 16
    vqtok       `vqtok.serve` with the same model, one API process and one worker
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body, Response
from PIL import Image

from vqtok.preprocess import Preprocess
from vqtok.serve.facts import Facts
from vqtok.serve.items import Item, Parts
from vqtok.serve.slab import Op
from vqtok.serve.streams import Passage
from vqtok.traits import Traits
from vqtok.types import Fingerprint

SIZE, STRIDE, BATCH, DECODERS = 256, 16, 16, 2
BINARY = "application/octet-stream"
FILES = (b"\xff\xd8\xff", b"\x89PNG")  # how those of JPEG and PNG begin


def pixels_of(body: bytes) -> np.ndarray:
    """(n, 256, 256, 3) of raw pixels, or of a file."""
    if body.startswith(FILES):
        with Image.open(io.BytesIO(body)) as picture:
            return np.asarray(picture.convert("RGB"))[None]
    return np.frombuffer(body, np.uint8).reshape(-1, SIZE, SIZE, 3)


def codes_of(pixels: np.ndarray) -> np.ndarray:
    """(..., 256, 256, 3) -> (..., 16, 16): what stands for a network."""
    return pixels[..., ::STRIDE, ::STRIDE, 0].astype("<u2")


def predict(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Codes of a batch."""
    return [codes_of(pixels) for pixels in batch]


# --- bare Starlette -------------------------------------------------------------------------------


class Bare:
    """As little as can be done in one process, and yet in batches."""

    def __init__(self) -> None:
        self.waiting: list[tuple[np.ndarray, asyncio.Future[bytes]]] = []
        self.wake = asyncio.Event()
        self.pool = ThreadPoolExecutor(DECODERS)
        self.model = ThreadPoolExecutor(1)  # a network on the loop would stop everybody
        self.tasks: list[asyncio.Task[None]] = []

    async def encode(self, request: Any) -> Any:
        from starlette.responses import Response

        if not self.tasks:
            self.tasks.append(asyncio.create_task(self.work()))
        loop = asyncio.get_running_loop()
        body = await request.body()
        if body.startswith(FILES):
            pixels = await loop.run_in_executor(self.pool, pixels_of, body)
        else:
            pixels = pixels_of(body)
        done: asyncio.Future[bytes] = loop.create_future()
        self.waiting.append((pixels, done))
        self.wake.set()
        return Response(await done, media_type=BINARY)

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.wake.wait()
            batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
            if not self.waiting:
                self.wake.clear()
            found = await loop.run_in_executor(self.model, predict, [one for one, _ in batch])
            for (_, done), codes in zip(batch, found, strict=True):
                if not done.done():
                    done.set_result(codes.tobytes())


def starlette(port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def ready(request: Any) -> Any:
        from starlette.responses import Response

        return Response()

    encode = Route("/v1/encode", Bare().encode, methods=["POST"])
    app = Starlette(routes=[encode, Route("/ready", ready)])
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


# --- stock LitServe -------------------------------------------------------------------------------


class Stock(litserve.LitAPI):
    """What its guide has one write."""

    def setup(self, device: str) -> None: ...

    def decode_request(self, request: bytes) -> np.ndarray:
        return pixels_of(request)

    def batch(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(inputs)

    def predict(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        return predict(x)

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        return output

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(output.tobytes(), media_type=BINARY)


# LitServe reads annotations as they stand, and here they would be text.
Stock.decode_request.__annotations__["request"] = Annotated[bytes, Body()]
Stock.encode_response.__annotations__["return"] = Response


def stock(port: int) -> None:
    api = Stock(api_path="/v1/encode", max_batch_size=BATCH, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", healthcheck_path="/ready")
    server.run(
        port=port,
        host="127.0.0.1",
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


# --- vqtok ----------------------------------------------------------------------------------------


@dataclass
class Reader:
    """An engine, and what makes it on a device."""

    facts: Facts

    def __call__(self, device: str) -> Reader:
        return self

    def warm_up(self, max_batch: int, beat: Callable[[], None]) -> None: ...

    def rows(self, item: Item) -> int:
        return BATCH

    def run(self, op: Op, items: Sequence[Item], beat: Callable[[], None]) -> list[Parts]:
        return [{"codes": codes} for codes in predict([item.parts["pixels"] for item in items])]

    def passage(self, op: Op) -> Passage:
        raise NotImplementedError


def vqtok(port: int) -> None:
    from vqtok.serve.layers import flags, resolve
    from vqtok.serve.main import run

    given = {"models": {"reader": "reader"}, "port": port, "api_processes": 1, "max_batch": BATCH}
    given |= {"slots": 8 * 16}  # as many pictures as are under way with 16 in a request
    facts = facts_of("reader")
    sys.exit(run(resolve([flags({**given, "log": "off"})]), {"reader": (facts, Reader(facts))}))


def facts_of(name: str) -> Facts:
    """What a tokenizer of such pictures and codes would be."""
    return Facts(
        name=name,
        tokenizer=name,
        version="0",
        fingerprint=Fingerprint(*("0" * 64,) * 4),
        precision="ieee32",
        preprocess=Preprocess(policy="center", size=SIZE, stride=STRIDE),
        traits=Traits(codebook_size=1 << 14, depth=0, axes=2, stride=(STRIDE, STRIDE)),
    )


WAYS = {"starlette": starlette, "litserve": stock, "vqtok": vqtok}

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]))

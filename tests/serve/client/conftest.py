"""A server of tokens in few lines, that misbehaves as it is told, and both clients as one."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np
import pytest
from serve_stubs import (
    codes_of,
    codes_of_latents,
    corners,
    latents_of,
    pixels_of,
    stub_facts,
)

from vqtok.preprocess import prepare
from vqtok.serve.client import AsyncClient, Client
from vqtok.serve.client.retries import Patience
from vqtok.serve.facts import Facts
from vqtok.serve.wire import (
    Failure,
    Head,
    Limits,
    Row,
    Space,
    Upload,
    print_text,
    read_pictures,
    read_tokens,
    write_pictures,
    write_tokens,
)
from vqtok.types import Codes

DROP = "drop"  # closes the connection without a word


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Told(NamedTuple):
    """An answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012


def fault(status: int, code: str, message: str, **headers: str) -> Told:
    """An error as servers of tokens send it."""
    error = {"status": status, "code": code, "message": message, "request_id": "r1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(status, json.dumps({"error": error}).encode(), named)


def all_failed(failures: list[Failure]) -> Told:
    told = fault(*failures[0])
    if len(failures) == 1:
        return told
    pictures = [{"status": one.status, "error": one._asdict()} for one in failures]
    body = json.loads(told.body) | {"pictures": pictures}
    return told._replace(body=json.dumps(body).encode())


class FakeServer:
    """Does what a server does over the codes of `serve_stubs`, after what `script` says.

    script    what happens to the next requests but GETs: None (nothing), DROP, a `Told`, or a
              function of the request that gives one of these
    spoil     pixels' first red value -> the failure of such a picture in an answer
    asked     the requests so far
    at_once   the most that were under way together
    """

    def __init__(self, facts: Facts, limits: Limits) -> None:
        self.facts, self.limits = facts, limits
        self.script: deque[Any] = deque()
        self.spoil: dict[int, Failure] = {}
        self.asked: list[Asked] = []
        self.ready: deque[Told] = deque()
        self.sockets: list[Any] = []
        self.at_once = self.now = 0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def posts(self) -> list[Asked]:
        return [one for one in self.asked if one.method == "POST"]

    def answer(self, asked: Asked) -> Any:
        with self.lock:
            self.asked.append(asked)
            self.now += 1
            self.at_once = max(self.at_once, self.now)
            event = self.script.popleft() if self.script and asked.method == "POST" else None
        try:
            told = event(asked) if callable(event) else event
            return self.usual(asked) if told is None else told
        finally:
            with self.lock:
                self.now -= 1

    def usual(self, asked: Asked) -> Told:
        path, _, query = asked.path.partition("?")
        op = path.rpartition("/")[2]
        if path == "/ready":
            return self.ready.popleft() if self.ready else Told(200, b"{}")
        if asked.method == "GET":
            named = path == f"/v1/models/{self.facts.name}"
            if path != "/v1/model" and not named:
                return fault(404, "not_found", "there is no such path")
            told = self.facts.to_dict() | {"limits": vars(self.limits)}
            return Told(200, json.dumps(told).encode())
        rows = self.decoded(asked) if op == "decode" else self.encoded(asked, op)
        failed = [row for row in rows if isinstance(row, Failure)]
        if len(failed) == len(rows):
            return all_failed(failed)
        write = write_tokens if op == "encode" else write_pictures
        main = {"main": "latents"} if "latents" in query else {}
        body, headers = write(rows, self.head(), asked.headers["accept"], **main)  # type: ignore[operator]
        return Told(200, body, dict(headers))

    def head(self) -> Head:
        own = self.facts
        traits = own.traits
        return Head(own.fingerprint, own.fingerprint.codebook, traits.codebook_size, traits.depth)

    def encoded(self, asked: Asked, op: str) -> list[Row | Failure]:
        shape = asked.headers.get("x-vqtok-shape", "")
        if shape.startswith("*,"):
            sides = math.prod(map(int, shape[2:].split(",")))
            asked.headers["x-vqtok-shape"] = shape.replace("*", str(len(asked.body) // sides))
        uploads = read_pictures(
            asked.headers, asked.body, self.limits, video=self.facts.traits.is_video
        )
        return [self.one(upload, op) for upload in uploads]

    def one(self, upload: Upload, op: str) -> Row | Failure:
        if isinstance(upload.data, Failure):
            return upload.data
        if self.facts.traits.is_video:
            pixels, size = upload.data, upload.data.shape[:-1]
        else:
            pixels, size = prepare(upload.data, self.facts.preprocess)
        if (red := int(pixels.flat[0])) in self.spoil:
            return self.spoil[red]
        cells = corners(pixels, self.facts.traits.is_video)
        codes = codes_of(cells)
        parts = {"codes": codes, "latents": np.ascontiguousarray(latents_of(cells))}
        if op == "reconstruct":
            parts = {"pixels": pixels_of(codes, size)}
        return Row(parts, size)

    def decoded(self, asked: Asked) -> list[Row | Failure]:
        own, codebook = self.facts.traits, self.facts.fingerprint.codebook
        space = Space(own.codebook_size, own.axes, codebook, 0, own.is_video, 2)
        tokens = read_tokens(asked.headers, asked.body, space, self.limits)
        rows: list[Row | Failure] = []
        for token in tokens:
            if isinstance(token, Failure):
                rows.append(token)
            elif isinstance(token, Codes):
                size = tuple(token.sizes[0].tolist())
                rows.append(Row({"pixels": pixels_of(token.ids[0], size)}, size))
            else:
                pixels = pixels_of(codes_of_latents(token.values), token.size)
                rows.append(Row({"pixels": pixels}, token.size))
        return rows


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def setup(self) -> None:
        super().setup()
        self.fake.sockets.append(self.connection)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.chunks() if "transfer-encoding" in headers else self.whole(headers)
        told = self.fake.answer(Asked(self.command, self.path, headers, body))
        if told == DROP:
            linger = struct.pack("ii", 1, 0)  # a reset, not an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        self.send_response_only(told.status)
        own = {"x-vqtok-fingerprint": print_text(self.fake.facts.fingerprint)}
        for name, value in {**own, **{k.lower(): v for k, v in told.headers.items()}}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(told.body)))
        self.end_headers()
        self.wfile.write(told.body)

    do_POST = do_GET

    def whole(self, headers: dict[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length", 0)))

    def chunks(self) -> bytes:
        """A body whose length is not told."""
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def log_message(self, format: str, *args: object) -> None:
        pass


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving(facts: Facts | None = None, limits: Limits | None = None) -> Iterator[FakeServer]:
    fake = FakeServer(facts or stub_facts(size=32), limits or Limits())
    handler = type("OwnHandler", (Handler,), {"fake": fake})
    listener = Listener(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield fake
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
        for each in fake.sockets:
            each.close()


class Both:
    """The asynchronous client behind the methods of the other one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        try:
            self.client = AsyncClient(*args, **options)
        except BaseException:
            self.runner.close()
            raise

    def encode_many(self, images: Any, **options: Any) -> Iterator[Any]:
        found = self.client.encode_many(images, **options)
        while True:
            try:
                yield self.runner.run(anext(found))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()

    def __repr__(self) -> str:
        return repr(self.client)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **options: self.runner.run(found(*args, **options))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


@pytest.fixture
def serve() -> Callable[..., Any]:
    """`with serve(facts, limits) as server`."""
    return serving


@pytest.fixture(params=[Client, Both], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes a client of a server or an address."""
    made: list[Any] = []

    def make(server: FakeServer | str, **options: Any) -> Any:
        url = server if isinstance(server, str) else server.url
        made.append(request.param(url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes its time."""
    found: list[float] = []
    now = [time.monotonic()]

    async def note(seconds: float) -> None:
        found.append(seconds)
        now[0] += seconds

    patience = partial(Patience, clock=lambda: now[0], jitter=lambda: 0.5, sleep=note)
    monkeypatch.setattr("vqtok.serve.client.core.Patience", patience)
    return found


@pytest.fixture
def refuse() -> Callable[..., Any]:
    """For `script`: an error for every body that has some bytes in it."""

    def refusing(status: int, code: str, inside: bytes, message: str = "it is refused") -> Any:
        return lambda asked: fault(status, code, message) if inside in asked.body else None

    return refusing


@pytest.fixture
def told() -> Callable[..., Told]:
    """An answer that is an error."""

    def telling(status: int, code: str = "", message: str = "no", **headers: str) -> Told:
        return fault(status, code, message, **headers)

    return telling


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"

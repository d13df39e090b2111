"""One request and its answer, over ASGI: the body in pieces, at most one answer, who is gone."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from vqtok.serve.http.faults import Fault, Gone, Headers

__all__ = ["STALLED", "Exchange", "Gone", "Room", "Scope"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]

STALLED = "the body came too slowly, or not at all"
WATCH_AFTER = 0.05  # seconds until somebody looks whether the client is still there
WATCH_EVERY = 1.0
SLOWEST = 16_384  # bytes a second, on average, of a body or an answer once `patience` is over
DRAIN_SECONDS = 5.0
DRAIN_BYTES = 512_000_000
PIECE = 1 << 18  # bytes of a long answer that are sent at a time
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Room:
    """How many bytes of bodies and long answers a process holds at once; of answers half of it.

    Or those who take theirs slowly would keep out all who have something to send.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = self.answers = 0

    def take(self, count: int, *, of_answer: bool = False) -> None:
        """Raises where there is not so much left; `give` is due all the same."""
        self.used += count
        self.answers += count * of_answer
        if self.used > self.limit:
            raise Fault("busy", f"more than {self.limit:,} bytes of requests are under way already")
        if of_answer and self.answers > self.limit // 2:
            raise Fault(
                "busy", f"more than {self.limit // 2:,} bytes of answers are under way already"
            )

    def give(self, count: int, *, of_answer: bool = False) -> None:
        """So much is held no more."""
        self.used -= count
        self.answers -= count * of_answer


class Exchange:
    """What is known of one request while it is served.

    limit     bytes that its body may have
    room      that bodies which are held share
    patience  seconds without progress after which a body or the sending of an answer is given up
    """

    __slots__ = (
        "_held",
        "_made",
        "_reading",
        "_receive",
        "_room",
        "_seen",
        "_send",
        "_spent",
        "_started",
        "_task",
        "_timer",
        "_watcher",
        "answered",
        "asked",
        "began",
        "common",
        "complete",
        "error",
        "got",
        "headers",
        "id",
        "limit",
        "method",
        "model",
        "op",
        "path",
        "patience",
        "pictures",
        "scope",
        "sending",
        "sent",
        "status",
        "stopped",
        "timings",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        limit: int,
        patience: float,
        room: Room,
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.limit, self.patience = limit, patience
        self._room = room
        self._held = self._made = 0  # bytes of the body, and of the answer
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if len(self.headers) < len(scope["headers"]):
            self.headers = _joined(scope["headers"])
        self.id = _id_of(self.headers.get("x-request-id"))
        self.began = self._seen = time.perf_counter()
        self._reading = self._spent = 0.0  # since when a piece is waited for; seconds of that
        self._started = 0.0  # since when the answer is sent
        self.got = self.sent = self.pictures = self.status = 0
        self.asked = self.complete = self.answered = self.sending = False
        self.op, self.model = "other", ""
        self.common: list[tuple[bytes, bytes]] = []  # headers of any answer
        self.error = self.stopped = ""
        self.timings: dict[str, float] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._look)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """What stands behind the question mark."""
        raw = self.scope.get("query_string", b"")
        return parse_qsl(raw.decode("latin-1"), keep_blank_values=True) if raw else []

    @property
    def query(self) -> dict[str, str]:
        """The same, by name."""
        return dict(self.parameters)

    # --- the body --------------------------------------------------------------------------

    def check_length(self) -> None:
        """Raises where the body says that it is too long, or what was read of it is."""
        length = self.headers.get("content-length")
        told = length is not None and (not length.isdigit() or int(length) > self.limit)
        if told or self.got > self.limit:
            raise self._too_large()

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end."""
        while not self.complete:
            piece = await self._next()
            if self.got > self.limit:
                raise self._too_large()
            if piece:
                return piece
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, to be held until the request is over."""
        while piece := await self.read():
            self.hold(len(piece))
            yield piece

    def hold(self, count: int, *, of_answer: bool = False) -> None:
        """So many bytes are held until the request is over; a `Fault` where there is no room."""
        if of_answer:
            self._made += count
        else:
            self._held += count
        self._room.take(count, of_answer=of_answer)

    def let_go(self, count: int) -> None:
        """So many bytes of the answer are held no more."""
        self._made -= count
        self._room.give(count, of_answer=True)

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])

    async def _next(self) -> bytes:
        self.asked = True
        begin = self._reading = time.perf_counter()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone("the client left before its body was here")
        piece: bytes = message.get("body", b"")
        self.complete = not message.get("more_body", False)
        self.got += len(piece)
        self._reading, now = 0.0, time.perf_counter()
        self._spent += now - begin
        return piece

    def _too_large(self) -> Fault:
        return Fault(
            "too_large",
            f"the body is larger than {self.limit:,} bytes, which this server takes at most",
        )

    async def drain(self) -> bool:
        """Reads what is left of a body, so that the client gets to see the answer to come.

        Whether the connection is of use afterwards: not where there was too much, or where the
        client was not yet told to send.
        """
        self._timer.cancel()
        if self.complete:
            return True
        if not self.asked and self.headers.get("expect", "").lower() == "100-continue":
            return False
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.complete and self.got <= DRAIN_BYTES:
                    await self._next()
        except TimeoutError:
            return False
        return self.complete

    # --- the answer -------------------------------------------------------------------------

    async def answer(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """The one answer, whole."""
        await self.start(status, len(body), headers)
        self.sent = len(body)
        await self._send({"type": "http.response.body", "body": body})

    async def answer_pieces(
        self, status: int, length: int, pieces: Iterable[bytes | memoryview], headers: Headers = ()
    ) -> None:
        """The one answer, sent as fast as the client takes it."""
        await self.start(status, length, headers)
        for piece in pieces:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sent += len(piece)
            self._seen = time.perf_counter()
        await self._send({"type": "http.response.body", "body": b""})

    async def answer_made(
        self,
        status: int,
        length: int,
        pieces: AsyncIterator[bytes | memoryview],
        headers: Headers = (),
    ) -> None:
        """The one answer, sent as it is made; the time that this takes is not the client's."""
        await self.start(status, length, headers)
        self._watcher = self._watcher or asyncio.ensure_future(self._await_leaving())
        while (piece := await self._pause(pieces)) is not None:
            for at in range(0, len(piece), PIECE):
                part = piece[at : at + PIECE]
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
                self.sent += len(part)
                self._seen = time.perf_counter()
            if self._watcher.done():
                raise Gone("the client left before its answer was made")
        await self._send({"type": "http.response.body", "body": b""})

    async def _pause(self, pieces: AsyncIterator[bytes | memoryview]) -> bytes | memoryview | None:
        """The next piece, or None; nothing is sent until it is there."""
        self.sending, begin = False, time.perf_counter()
        piece = await anext(pieces, None)
        self.sending, self._seen = True, time.perf_counter()
        self._started += self._seen - begin
        return piece

    async def start(self, status: int, length: int, headers: Headers) -> None:
        """Status and headers; those that every answer has come along."""
        self.answered = self.sending = True
        self.status = status
        self._started = self._seen = time.perf_counter()
        # HTTP has no length of an answer that has no body.
        size = [] if status in (204, 304) else [(b"content-length", b"%d" % length)]
        own = [*size, (b"x-request-id", self.id.encode()), *self.common, *headers]
        if self.timings:
            spans = [f"{name};dur={span * 1000:.2f}" for name, span in self.timings.items()]
            own.append((b"server-timing", ", ".join(spans).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": own})

    # --- who waits ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Now and then: stops what gets no further, and notices clients that left."""
        self._timer = asyncio.get_running_loop().call_later(WATCH_EVERY, self._look)
        if self.sending:
            if self._is_taken_slowly():
                self._stop("client_gone")
        elif self.complete:
            if self._watcher is None:
                self._watcher = asyncio.ensure_future(self._await_leaving())
        elif self._reading and self._is_stalled():
            self._stop("body_stalled")

    def _is_stalled(self) -> bool:
        waited = time.perf_counter() - self._reading
        spent = self._spent + waited
        return waited > self.patience or (spent > self.patience and self.got < SLOWEST * spent)

    def _is_taken_slowly(self) -> bool:
        now = time.perf_counter()
        spent = now - self._started
        slow = spent > self.patience and self.sent < SLOWEST * spent
        return now - self._seen > self.patience or slow

    async def _await_leaving(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.sending:
            self._stop("client_gone")

    def _stop(self, why: str) -> None:
        if not self.stopped and self._task is not None:
            self.stopped = why
            self._task.cancel()

    def was_stopped(self) -> bool:
        """After a CancelledError: whether it came from here, and is over with that."""
        if self.stopped and self._task is not None:
            self._task.uncancel()
        return bool(self.stopped)

    def close(self) -> None:
        """No more looking; what was held of the body is let go."""
        self._room.give(self._held)
        self._room.give(self._made, of_answer=True)
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name, where one comes several times: one after another, as RFC 9110 has it."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ", ".join(values) for name, values in found.items()}


def _id_of(given: str | None) -> str:
    """The id that the client gave, where it is one that can stand in a log; else a new one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"

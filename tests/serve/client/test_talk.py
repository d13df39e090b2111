"""What goes wrong between client and server, and what is done about it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from typing import Any

import httpx
import pytest
from serve_stubs import picture, stub_facts

from vqtok.errors import ConfigError, MismatchError, ServiceError, VqtokError
from vqtok.serve.client.connection import Connection, NoConnection
from vqtok.serve.client.retries import Attempts, Patience
from vqtok.serve.wire import print_text

PIXELS = picture(1, (32, 32))


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_asked_again(
    server: Any, connect: Any, waits: Any, told: Any, status: int
) -> None:
    client = connect(server)
    client.model()
    server.script.extend([told(status, retry_after="2"), told(status)])
    client.encode(PIXELS)
    assert len(server.posts) == 3
    # What the server asks for and a quarter of the usual, and then the usual, doubled.
    assert waits == pytest.approx([2 + 0.025, 0.2 * 0.75])
    assert [one.body for one in server.posts] == [PIXELS.tobytes()] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 500])
def test_what_does_not_pass_is_not(
    server: Any, connect: Any, waits: Any, told: Any, status: int
) -> None:
    server.script.append(told(status))
    with pytest.raises(VqtokError):
        connect(server).encode(PIXELS)
    assert len(server.posts) == 1
    assert waits == []


def test_a_connection_that_breaks(server: Any, connect: Any, waits: Any) -> None:
    client = connect(server)
    client.model()
    server.script.extend(["drop", "drop"])
    client.encode(PIXELS)
    assert len(server.posts) == 3
    assert waits == pytest.approx([0.1 * 0.75, 0.2 * 0.75])


def test_nobody_is_there(nobody: str, connect: Any, waits: Any) -> None:
    with pytest.raises(ServiceError) as error:
        connect(nobody, retries=1, timeout=20).encode(PIXELS)
    said = str(error.value)
    assert said.startswith(f"{nobody} cannot be reached: ")
    assert said.endswith(f" ({len(waits) + 1} attempts)")
    assert error.value.status is None
    assert 18 < sum(waits) < 20


def test_a_server_that_is_started_again(
    server: Any, connect: Any, waits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.send

    async def starting(self: Connection, *sent: Any) -> Any:
        if sum(waits) < 10:
            raise NoConnection("connection refused")
        return await send(self, *sent)

    client = connect(server, retries=1)
    client.model()
    monkeypatch.setattr(Connection, "send", starting)
    client.encode(PIXELS)
    assert 10 <= sum(waits) < 12 and max(waits) <= 2
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("cause", "attempts"),
    [(ssl.SSLCertVerificationError("it is not trusted"), 2), (socket.gaierror("no such host"), 11)],
)
def test_a_certificate_that_is_not_trusted_stays_so(
    connect: Any, waits: Any, monkeypatch: pytest.MonkeyPatch, cause: OSError, attempts: int
) -> None:
    async def send(*sent: Any, **options: Any) -> Any:
        raise httpx.ConnectError("in vain") from cause

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    with pytest.raises(ServiceError) as error:
        connect("https://host", retries=1, timeout=10).model()
    said = f"https://host cannot be reached: {cause} ({attempts} attempts)"
    assert str(error.value) == said


def test_after_the_last_attempt_the_answer_is_told(
    server: Any, connect: Any, waits: Any, told: Any
) -> None:
    server.script.extend([told(502, "", "nobody is behind the proxy")] * 9)
    with pytest.raises(ServiceError) as error:
        connect(server).encode(PIXELS)
    assert str(error.value) == (
        f"{server.url} answered 502: nobody is behind the proxy (5 attempts)"
    )
    raised = error.value
    assert (raised.status, raised.code, raised.request_id) == (502, "", "r1")


@pytest.mark.parametrize(("status", "code"), [(429, "busy"), (503, "draining")])
def test_a_server_that_is_full_or_ends_is_asked_until_the_timeout(
    server: Any, connect: Any, waits: Any, told: Any, status: int, code: str
) -> None:
    client = connect(server, timeout=30, retries=1)
    client.model()
    server.script.extend([told(status, code, "not now", retry_after="1")] * 99)
    with pytest.raises(ServiceError) as error:
        client.encode(PIXELS)
    assert 10 < len(waits) < 30 and sum(waits) < 30
    assert str(error.value) == (
        f"{server.url} answered {status} {code}: not now ({len(waits) + 1} attempts)"
    )


def test_what_workers_die_over_is_not_asked_for_ever(
    server: Any, connect: Any, waits: Any, told: Any
) -> None:
    client = connect(server, timeout=30, retries=1)
    client.model()
    server.script.extend([told(503, "worker_died", "2 workers died over it")] * 99)
    with pytest.raises(ServiceError, match=r"worker_died.*\(2 attempts\)$"):
        client.encode(PIXELS)
    assert len(waits) == 1


def test_no_retries_at_all(server: Any, connect: Any, waits: Any, told: Any, nobody: str) -> None:
    client = connect(server, retries=0)
    client.model()
    for event in (told(429), told(503), "drop"):
        server.script.append(event)
        with pytest.raises(ServiceError, match=r"\(1 attempt\)$"):
            client.encode(PIXELS)
    with pytest.raises(ServiceError, match=r"\(1 attempt\)$"):
        connect(nobody, retries=0).encode(PIXELS)
    assert waits == []


def test_a_server_that_wants_more_time_than_there_is(
    server: Any, connect: Any, waits: Any, told: Any
) -> None:
    client = connect(server, timeout=10)
    client.model()
    server.script.append(told(503, retry_after="11"))
    with pytest.raises(ServiceError):
        client.encode(PIXELS)
    assert waits == []


def test_a_server_that_does_not_answer(server: Any, connect: Any) -> None:
    server.script.append(lambda asked: time.sleep(0.6))
    client = connect(server, timeout=0.3)
    client.model()
    began = time.monotonic()
    with pytest.raises(ServiceError) as error:
        client.encode(PIXELS)
    assert str(error.value) == f"{server.url} cannot be reached: no answer in time (1 attempt)"
    assert time.monotonic() - began < 5


def test_an_answer_that_trickles_in(connect: Any) -> None:
    over = threading.Event()

    class Trickle(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            with contextlib.suppress(OSError):
                while not over.wait(0.1):
                    self.request.sendall(b" ")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.02,)).start()
        url = f"http://127.0.0.1:{listener.server_address[1]}"
        timer = threading.Timer(10, over.set)
        timer.start()
        try:
            with pytest.raises(ServiceError) as error:
                connect(url, timeout=0.4).model()
            assert not over.is_set()
        finally:
            timer.cancel()
            over.set()
            listener.shutdown()
    assert str(error.value) == f"{url} cannot be reached: no answer in time (1 attempt)"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("3", 3 + 0.05 * 0.5),
        ("0", 0.05 * 0.5),
        ("0.5", 0.5 + 0.05 * 0.5),
        ("-1", 0.1 * 0.75),
        ("nan", 0.1 * 0.75),
        ("Sat, 21 Nov 2026 10:00:00 GMT", 0.1 * 0.75),
    ],
)
def test_retry_after(header: str, expected: float) -> None:
    attempts = Patience(60, 4, lambda: 0.0, lambda: 0.5).start()
    assert attempts.pause({"retry-after": header}, failed=True) == pytest.approx(expected)


def test_pauses_grow_are_bounded_and_spread() -> None:
    def pauses(jitter: float) -> list[float | None]:
        attempts: Attempts = Patience(1e9, 12, lambda: 0.0, lambda: jitter).start()
        return [attempts.pause({}, failed=True) for _ in range(13)]

    low, high = pauses(0.0), pauses(1.0)
    assert high == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6] + [2.0] * 7 + [None])
    assert low[:-1] == pytest.approx([one / 2 for one in high[:-1] if one])


# --- the server ----------------------------------------------------------------------------------


def test_ready_is_waited_for(server: Any, connect: Any, waits: Any, told: Any) -> None:
    server.ready.extend([told(503), told(503)])
    connect(server).wait_until_ready()
    assert waits == [0.2, 0.2]
    assert [one.path for one in server.asked] == ["/ready"] * 3


def test_ready_is_not_waited_for_for_ever(
    server: Any, nobody: str, connect: Any, waits: Any, told: Any
) -> None:
    server.ready.extend([told(503)] * 99)
    with pytest.raises(ServiceError) as error:
        connect(server).wait_until_ready(1)
    assert str(error.value) == f"{server.url} was not ready within 1 s: it answered 503"
    with pytest.raises(ServiceError, match="was not ready within 1 s: "):
        connect(nobody).wait_until_ready(1)


def test_the_model_is_asked_for_once(server: Any, connect: Any) -> None:
    client = connect(server)
    assert client.model() == server.facts
    client.encode(PIXELS)
    assert [one.path for one in server.asked] == ["/v1/model", "/v1/encode"]


def test_one_of_several_models(server: Any, connect: Any) -> None:
    connect(server, model="stub").encode(PIXELS)
    assert [one.path for one in server.asked] == ["/v1/models/stub", "/v1/models/stub/encode"]
    with pytest.raises(ServiceError) as error:
        connect(server, model="other").encode(PIXELS)
    assert str(error.value) == (f"{server.url} answered 404 not_found: there is no such path")


def test_the_key(server: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_API_KEY", "from-outside")
    for key, sent in ((None, "Bearer from-outside"), ("mine", "Bearer mine"), ("", None)):
        connect(server, api_key=key).model()
        assert server.asked[-1].headers.get("authorization") == sent


def test_an_address_with_a_path(server: Any, connect: Any) -> None:
    with pytest.raises(ServiceError):
        connect(f"{server.url}/tokens/").model()
    assert server.asked[-1].path == "/tokens/v1/model"


def test_a_tokenizer_that_changes(server: Any, connect: Any) -> None:
    client = connect(server)
    client.encode(PIXELS)
    first = server.facts.fingerprint
    server.facts = stub_facts(size=32, fingerprint=type(first)(*["a" * 64] * 4))
    with pytest.raises(MismatchError) as error:
        client.encode(PIXELS)
    assert str(error.value) == (
        f"the tokenizer at {server.url} changed: its fingerprint was {first} and is now "
        f"{server.facts.fingerprint}; make a new client to go on with the new one"
    )
    assert print_text(first) != print_text(server.facts.fingerprint)


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"[]", b'{"limits": {}}'])
def test_an_address_of_something_else(server: Any, connect: Any, told: Any, body: bytes) -> None:
    server.usual = lambda asked: told(200)._replace(body=body)
    with pytest.raises(ServiceError) as error:
        connect(server).model()
    said = str(error.value)
    assert said.startswith(
        f"{server.url} answered what cannot be read: /v1/model does not describe a tokenizer: "
    )


def test_an_answer_that_is_cut(server: Any, connect: Any, told: Any) -> None:
    client = connect(server)
    client.model()
    headers = {"content-type": "application/safetensors"}
    server.script.append(told(200)._replace(body=b"abc", headers=headers))
    with pytest.raises(ServiceError) as error:
        client.encode(PIXELS)
    assert str(error.value).startswith(f"{server.url} answered what cannot be read: ")


def test_an_answer_of_somebody_on_the_way(server: Any, connect: Any, told: Any) -> None:
    server.script.append(told(403)._replace(body=b"<h1>Forbidden</h1>"))
    with pytest.raises(ServiceError) as error:
        connect(server).encode(PIXELS)
    assert str(error.value) == f"{server.url} answered 403: '<h1>Forbidden</h1>'"
    assert error.value.status == 403


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout is a number of seconds above 0; got 0"),
        ({"retries": -1}, "retries is a whole number, at least 0; got -1"),
        ({"concurrency": 0}, "concurrency is a whole number, at least 1; got 0"),
        ({"per_request": True}, "per_request is a whole number, at least 1; got True"),
        (
            {"model": "a/b"},
            "a model's name is letters, digits, '.', '_' and '-', as it stands in the server's "
            "paths; got 'a/b'",
        ),
    ],
)
def test_settings_that_cannot_be(connect: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        connect("http://127.0.0.1:1", **options)
    assert str(error.value) == message


def test_a_closed_client(server: Any) -> None:
    import asyncio

    from vqtok.serve import AsyncClient, Client

    said = f"this client of {server.url} is closed; make a new one"
    with Client(server.url) as client:
        client.encode(PIXELS)
    with pytest.raises(ServiceError) as error:
        client.encode(PIXELS)
    assert str(error.value) == said

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            await client.encode(PIXELS)
        with pytest.raises(ServiceError) as error:
            await client.encode(PIXELS)
        assert str(error.value) == said

    asyncio.run(main())

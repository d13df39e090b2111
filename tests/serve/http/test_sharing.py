"""What one request, or one client, may take from the others: slots, memory, bytes of headers."""

from __future__ import annotations

import asyncio
import time

import httpx
import numpy as np
import pytest
from serve_bodies import connected, raw, talk
from serve_stubs import StubEngine, picture

from vqtok.serve.http import exchange
from vqtok.serve.http.exchange import Exchange, Room
from vqtok.serve.http.faults import Fault

HEAD = (
    b"POST /v1/encode HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
    b"x-vqtok-shape: 256,256,3\r\ncontent-length: 196608\r\n\r\n"
)


def test_headers_alone_take_no_slot(serve):
    served = serve(slots=2)
    silent = [connected(served.url) for _ in range(4)]
    for one in silent:
        one.sendall(HEAD)
    time.sleep(0.2)
    assert served.desks["stub"].free[0] == 2
    assert httpx.post(served.url + "/v1/encode", **raw(picture())).status_code == 200
    for one in silent:
        one.close()


def test_a_slot_must_be_filled_in_time(serve, monkeypatch):
    monkeypatch.setattr(exchange, "SLOWEST", 0)
    served = serve(timeout=0.3)
    with connected(served.url) as slow:
        slow.sendall(HEAD)
        start = time.monotonic()
        while not served.free() or time.monotonic() - start < 0.3:
            slow.sendall(b"x" * 1000)
            time.sleep(0.05)
            assert time.monotonic() - start < 5
        answer = slow.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"message":"the body came too slowly, or not at all"' in answer


def test_a_request_has_at_most_half_of_the_slots(serve):
    served = serve(StubEngine(per_picture=0.02), slots=8, max_batch=1)
    least, desk = [], served.desks["stub"]
    ticket = desk._ticket

    def counted(*args, **options):
        least.append(desk.free[0])
        return ticket(*args, **options)

    desk._ticket = counted
    many = np.stack([picture(seed) for seed in range(20)])
    assert httpx.post(served.url + "/v1/encode", **raw(many)).status_code == 200
    assert (len(least), min(least)) == (20, 4)  # free ones, without that which is given then


def test_answers_have_half_of_the_room():
    room = Room(1000)
    room.take(400, of_answer=True)
    with pytest.raises(Fault) as error:
        room.take(101, of_answer=True)
    assert str(error.value) == "more than 500 bytes of answers are under way already"
    room.give(101, of_answer=True)
    room.take(600)
    room.give(400, of_answer=True)
    room.give(600)
    assert (room.used, room.answers) == (0, 0)


def test_pixels_of_long_answers_are_counted_until_they_are_sent(serve):
    url = serve(max_body="1MB").url  # a room of 8, of which answers have 4
    codes = np.zeros((20, 16, 16), np.uint16)
    headers = {"content-type": "application/octet-stream", "x-vqtok-dtype": "uint16"}
    shape = {"x-vqtok-shape": "20,16,16", "accept": "application/x-npy"}
    held = []
    take = Room.take

    def counted(self, count, *, of_answer=False):
        if of_answer:
            held.append(count)
        take(self, count, of_answer=of_answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Room, "take", counted)
        answer = httpx.post(
            url + "/v1/decode", content=codes.tobytes(), headers={**headers, **shape}
        )
    assert answer.status_code == 200
    assert sum(held[:-1]) == 20 * 256 * 256 * 3
    assert held[-1] == len(answer.content)


def test_an_answer_is_taken_at_a_least_speed(monkeypatch):
    monkeypatch.setattr(exchange, "WATCH_AFTER", 0.01)
    monkeypatch.setattr(exchange, "WATCH_EVERY", 0.01)

    async def main():
        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            await asyncio.sleep(0.02)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        x = Exchange(scope, receive, send, 100, 0.1, Room(1 << 20))
        pieces = [b"x"] * 100
        with pytest.raises(asyncio.CancelledError):
            await x.answer_pieces(200, 100, pieces)
        assert x.was_stopped()
        assert 2 < x.sent < 30
        x.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "head",
    [
        b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n",
    ],
    ids=["one", "many"],
)
def test_a_head_has_a_largest_size(serve, head):
    answer = talk(serve().url, b"GET /live HTTP/1.1\r\nHost: a\r\n" + head)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert answer.endswith(b"\r\n\r\nthe headers have more than 65,536 bytes")


def test_a_header_that_does_not_end(serve):
    with connected(serve().url) as endless:
        endless.sendall(b"GET /live HTTP/1.1\r\nHost: a\r\nX-A: ")
        time.sleep(0.1)
        endless.sendall(b"a" * 70_000)
        assert endless.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_trailers_count_too(serve):
    start = (
        b"POST /v1/decode HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    )
    answer = talk(serve().url, start + b"".join(b"X-%d: a\r\n" % n for n in range(10_000)))
    assert b"HTTP/1.1 431 " in answer


def test_a_long_path_and_many_requests_on_one_connection(serve):
    url = serve().url
    assert talk(url, b"GET /" + b"a" * 70_000).startswith(b"HTTP/1.1 431 ")
    one = b"GET /live HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 30_000 + b"\r\n\r\n"
    last = one.replace(b"Host: a", b"Host: a\r\nConnection: close")
    assert talk(url, one * 5 + last).count(b"HTTP/1.1 200 ") == 6

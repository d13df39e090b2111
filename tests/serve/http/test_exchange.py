"""One request over ASGI: what is read before an early answer, and what is given up."""

from __future__ import annotations

import asyncio

import pytest

from vqtok.serve.http import exchange
from vqtok.serve.http.exchange import Exchange, Gone, Room
from vqtok.serve.http.faults import Fault


class Client:
    """Pieces of a body that come one by one, and what is sent back; `then` is what follows."""

    def __init__(self, *pieces, then="end", headers=()):
        self.pieces, self.then, self.sent = list(pieces), then, []
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(name.encode(), text.encode()) for name, text in headers],
        }

    async def receive(self):
        if self.pieces:
            more = len(self.pieces) > 1 or self.then != "end"
            return {"type": "http.request", "body": self.pieces.pop(0), "more_body": more}
        if self.then == "silence":
            await asyncio.sleep(60)
        if self.then == "flood":
            return {"type": "http.request", "body": b"x" * 1000, "more_body": True}
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    def exchange(self, limit=10_000, patience=5.0, room=None):
        return Exchange(self.scope, self.receive, self.send, limit, patience, room or Room(1 << 20))


def test_a_body_is_read_as_it_comes():
    async def main():
        x = Client(b"ab", b"", b"c").exchange()
        assert [piece async for piece in x.pieces()] == [b"ab", b"c"]
        assert (await x.read(), x.got, x.complete) == (b"", 3, True)
        x.close()

    asyncio.run(main())


def test_what_is_left_of_a_body_is_read_before_an_early_answer():
    async def main():
        client = Client(*[b"x" * 6000] * 5)
        x = client.exchange()
        await x.read()
        with pytest.raises(Fault) as error:
            await x.read()
        said = "the body is larger than 10,000 bytes, which this server takes at most"
        assert (str(error.value), error.value.status) == (said, 413)
        assert await x.drain()
        assert (client.pieces, x.got) == ([], 30_000)
        x.close()

    asyncio.run(main())


def test_reading_on_is_bounded(monkeypatch):
    monkeypatch.setattr(exchange, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(exchange, "DRAIN_BYTES", 50_000)

    async def main():
        flood = Client(b"x", then="flood").exchange()
        assert not await flood.drain()
        assert flood.got == 51_001 - 1000
        silence = Client(b"x", then="silence").exchange()
        assert not await silence.drain()
        with pytest.raises(Gone):
            await Client(b"x", then="gone").exchange().drain()

    asyncio.run(main())


def test_who_was_not_told_to_send_is_not_waited_for():
    async def main():
        x = Client(then="silence", headers=[("expect", "100-Continue")]).exchange()
        assert not await x.drain()

    asyncio.run(main())


def test_a_client_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(exchange, "WATCH_AFTER", 0.01)
    monkeypatch.setattr(exchange, "WATCH_EVERY", 0.01)

    async def main():
        client = Client(b"x")
        x = client.exchange(patience=0.05)

        async def never(message):
            if message["type"] == "http.response.body":
                await asyncio.sleep(60)

        x._send = never
        with pytest.raises(asyncio.CancelledError):
            await x.answer_pieces(200, 6, [b"abc", b"def"])
        assert x.was_stopped()
        assert x.stopped == "client_gone"
        x.close()

    asyncio.run(main())


def test_a_client_that_leaves_while_it_waits_is_noticed(monkeypatch):
    monkeypatch.setattr(exchange, "WATCH_AFTER", 0.01)

    async def main():
        client = Client(b"x", then="end")
        x = client.exchange()
        await x.body()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(5)
        assert x.was_stopped()
        assert x.stopped == "client_gone"
        x.close()

    asyncio.run(main())


def test_bodies_share_a_room():
    async def main():
        room = Room(1000)
        first = Client(b"x" * 900).exchange(room=room)
        await first.body()
        second = Client(b"x" * 200).exchange(room=room)
        with pytest.raises(Fault) as error:
            await second.body()
        said = "more than 1,000 bytes of requests are under way already"
        assert (str(error.value), error.value.status) == (said, 429)
        first.close()
        second.close()
        assert room.used == 0

    asyncio.run(main())


def test_an_answer_without_a_body_has_no_length():
    async def main():
        client = Client()
        x = client.exchange()
        x.timings = {"decode": 0.0012, "queue": 0.2}
        await x.answer(304, b"", [(b"etag", b'"a"')])
        x.close()
        head = dict(client.sent[0]["headers"])
        assert set(head) == {b"x-request-id", b"etag", b"server-timing"}
        assert head[b"server-timing"] == b"decode;dur=1.20, queue;dur=200.00"

    asyncio.run(main())


@pytest.mark.parametrize("length", ["10001", "1e3", "-5"])
def test_a_length_is_looked_at_before_the_body(length):
    async def main():
        x = Client(headers=[("content-length", length)]).exchange()
        with pytest.raises(Fault):
            x.check_length()
        x.close()

    asyncio.run(main())

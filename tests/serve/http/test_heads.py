"""Connections: bodies come as they were sent, and no more often copied than needs be."""

from __future__ import annotations

import asyncio
import http.client

import pytest
from serve_bodies import RAW
from serve_bodies import connected as dialled
from uvicorn.config import Config
from uvicorn.server import ServerState

from vqtok.serve.http import heads
from vqtok.serve.http.heads import Connection

HEAD = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n"


class Nowhere(asyncio.Transport):
    """A connection without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data):
        self.sent += data

    def is_closing(self):
        return False

    def pause_reading(self): ...
    def resume_reading(self): ...
    def close(self): ...


def put(connection, data):
    """As a loop does it."""
    for start in range(0, len(data), heads.PIECE):
        piece = data[start : start + heads.PIECE]
        connection.get_buffer(-1)[: len(piece)] = piece
        connection.buffer_updated(len(piece))


def connected(app):
    config = Config(app, log_level="error", access_log=False, lifespan="off")
    config.load()
    connection = Connection(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(Nowhere())
    return connection


def played(scene):
    """Runs scene(connection, received) with an app that gets what it asks for one by one."""
    received: asyncio.Queue[dict]

    async def app(scope, receive, send):
        while True:
            received.put_nowait(message := await receive())
            if not message.get("more_body"):
                break

    async def main():
        nonlocal received
        received = asyncio.Queue()
        await asyncio.wait_for(scene(connected(app), received), 10)

    asyncio.run(main())


def test_a_piece_is_handed_on_without_a_copy(monkeypatch):
    pieces = []
    real = heads.BoundedHeads.on_body

    def noted(self, body):
        pieces.append(body)
        real(self, body)

    monkeypatch.setattr(heads.BoundedHeads, "on_body", noted)

    async def scene(connection, received):
        put(connection, HEAD % 2000 + b"a" * 1000)
        first = await received.get()
        put(connection, b"b" * 1000)
        second = await received.get()
        assert (first["body"], second["body"]) == (b"a" * 1000, b"b" * 1000)
        assert first["body"] is pieces[0]
        assert second["body"] is pieces[1]

    played(scene)


@pytest.mark.parametrize("sizes", [(5, 6), (1,) * 500, (heads.PIECE, 3)])
def test_pieces_that_wait_come_together(sizes):
    pieces = [bytes([65 + number % 26]) * size for number, size in enumerate(sizes)]

    async def scene(connection, received):
        put(connection, HEAD % sum(sizes))
        for piece in pieces:
            put(connection, piece)
        found = await received.get()
        assert found == {"type": "http.request", "body": b"".join(pieces), "more_body": False}

    played(scene)


def test_connections_of_a_loop_share_their_room():
    async def scene(connection, received):
        other = connected(None)
        assert other.get_buffer(-1) is connection.get_buffer(-1)
        put(connection, HEAD % 4)
        put(connection, b"first"[:2])
        put(other, HEAD % 4 + b"else")
        put(connection, b"st")
        assert (await received.get())["body"] == b"fist"

    played(scene)


def test_loops_in_other_threads_have_their_own():
    async def room():
        return connected(None).get_buffer(-1)

    async def main():
        return await asyncio.to_thread(asyncio.run, room()) is not await room()

    assert asyncio.run(main())


def test_who_leaves_in_the_middle_is_noticed():
    async def scene(connection, received):
        put(connection, HEAD % 9 + b"half")
        await received.get()
        connection.eof_received()
        connection.connection_lost(None)
        assert await received.get() == {"type": "http.disconnect"}

    played(scene)


def test_a_body_in_very_small_chunks(serve):
    pixels = bytes(range(256)) * 12
    parts = (b"1\r\n%c\r\n" % value for value in pixels)
    there = dialled(serve().url)
    head = (
        "POST /v1/encode HTTP/1.1\r\nhost: here\r\nx-vqtok-shape: 32,32,3\r\n"
        f"content-type: {RAW}\r\naccept: {RAW}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    there.sendall(head.encode() + b"".join(parts) + b"0\r\n\r\n")
    answer = http.client.HTTPResponse(there)
    answer.begin()
    assert answer.status == 200, answer.read()
    there.close()

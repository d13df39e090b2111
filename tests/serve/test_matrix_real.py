"""Rows of failures, with the real tokenizer; those that take long are in test_matrix_life.py."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest
from serve_bodies import RAW, WRONG, connected, jpeg, posted, raw, talk, told
from serve_bombs import bombs
from serve_processes import PATIENCE, Served, until
from serve_real import SIDE, asked, batches, picture, real, right, stopped, tokenizer
from serve_server import serving

from vqtok.serve.engine import Item, Parts, TokenizerEngine
from vqtok.serve.items import quiet
from vqtok.serve.slab import Op
from vqtok.serve.wire import print_text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

MB = 1_000_000
SHAPE = f"{SIDE},{SIDE},3"
BAD = 5


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as some:
        yield some


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    """One server, through all that clients and workers may do."""
    with real() as there:
        yield there
        status, lines = there.end()
        assert (status, lines[-1]) == (0, "vqtok: stopped")


@pytest.fixture
def there(running: Served) -> Iterator[Served]:
    """It, with nothing lost by a test: all slots are free again, and it answers rightly."""
    yield running
    running.wait_idle()
    assert right(encoded(running, picture(0)).content, picture(0))


def encoded(there: Served, pixels: Any, **headers: str) -> httpx.Response:
    return httpx.post(there.url + "/v1/encode", timeout=PATIENCE, **raw(pixels, **headers))


def counted(there: Served, code: int, op: str = "encode") -> float:
    """Requests that were answered so."""
    return there.metric(f'vqtok_requests_total{{code="{code}",model="photo-tiny",op="{op}"}}')


# --- one of sixteen ------------------------------------------------------------------------------


def files() -> list[bytes]:
    """16 JPEGs, one of which is cut in its middle."""
    found = [jpeg(picture(seed, 96)) for seed in range(16)]
    found[BAD] = found[BAD][: len(found[BAD]) // 2]
    return found


def test_a_corrupt_jpeg_among_sixteen_requests(there: Served, pool: ThreadPoolExecutor) -> None:
    sent, headers = files(), {"content-type": "image/jpeg", "accept": RAW}
    url = there.url + "/v1/encode"
    ask = lambda data: httpx.post(url, content=data, headers=headers)  # noqa: E731
    with stopped(there):  # so that they wait together
        asking = [pool.submit(ask, data) for data in sent]
        until(lambda: there.held() == 15, "all have been decoded")
        assert told(asking.pop(BAD).result())[:2] == (400, "not_a_picture")
    del sent[BAD]
    for one, data in zip(asking, sent, strict=True):
        assert one.result().status_code == 200
        assert right(one.result().content, data)


def test_a_corrupt_jpeg_among_sixteen_in_one_request(there: Served) -> None:
    form = [("file", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(files())]
    answer = httpx.post(there.url + "/v1/encode", files=form, timeout=PATIENCE)
    found = answer.json()["pictures"]
    assert [one["status"] for one in found] == [400 if n == BAD else 200 for n in range(16)]
    for number, data in enumerate(files()):
        if number != BAD:
            assert right(found[number]["codes"], data)


class Failing(TokenizerEngine):
    """The real model, which fails on what is black."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.runs: list[int] = []

    def run(self, op: Op, items: Sequence[Item], beat: Any = quiet) -> list[Parts]:
        self.runs.append(len(items))
        if any(not item.parts["pixels"].any() for item in items):
            raise RuntimeError("black")
        return super().run(op, items, beat)


def test_a_picture_that_the_model_fails_on_among_sixteen() -> None:
    engine = Failing(tokenizer(), name="photo-tiny", tokenizer="photo-tiny")
    many = np.stack([picture(seed) for seed in range(16)])
    many[BAD] = 0
    with serving(engine) as served:
        answer = httpx.post(served.url + "/v1/encode", timeout=PATIENCE, **raw(many))
        assert answer.headers["x-vqtok-status"].split(",") == ["200"] * 5 + ["500"] + ["200"] * 10
        assert served.free()
    assert max(engine.runs) > 1
    found = np.frombuffer(answer.content, "<u2").reshape(15, -1)
    for codes, pixels in zip(found, np.delete(many, BAD, 0), strict=True):
        assert right(codes.tolist(), pixels)


# --- bodies that are too large, or wrong ---------------------------------------------------------


@pytest.mark.parametrize("said", [True, False], ids=["length", "chunks"])
def test_a_body_of_100_mb(there: Served, said: bool) -> None:
    """It is refused, and never held; one that says so before any of it is read."""
    before, seen = there.resident(), []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            if number % 10 == 0:
                seen.append(there.resident())
            yield bytes(MB)

    headers = {"content-type": "image/png"} | ({"content-length": str(100 * MB)} if said else {})
    with closing(http.client.HTTPConnection("127.0.0.1", there.port, timeout=PATIENCE)) as line:
        line.request("POST", "/v1/encode", pieces(), headers, encode_chunked=not said)
        answer = line.getresponse()
        assert (answer.status, b'"too_large"' in answer.read()) == (413, True)
    # The largest that is let in is 64 MB.
    assert max(*seen, there.resident()) - before < (16 if said else 80) * MB


def test_bombs(there: Served, pool: ThreadPoolExecutor) -> None:
    """Refused by their headers, while others are answered."""
    before, url = there.resident(), there.url + "/v1/encode"
    others = asked(pool, there, range(4))
    for name, (media, bomb) in bombs().items():
        refused = httpx.post(url, content=bomb, headers={"content-type": media})
        assert told(refused)[:2] == (413, "too_many_pixels"), name
    assert [one.result().status_code for one in others] == [200] * 4
    assert there.resident() - before < 40 * MB  # a hundredth of what they would take


@pytest.mark.parametrize(("verb", "media", "body", "expected"), WRONG)
def test_what_is_wrong_with_a_body_is_told(
    there: Served, verb: str, media: str, body: bytes, expected: tuple[int, str]
) -> None:
    headers = {"content-type": media}
    assert told(httpx.post(f"{there.url}/v1/{verb}", content=body, headers=headers))[:2] == expected


def test_codes_that_cannot_be(there: Served) -> None:
    size = tokenizer().codebook_size
    wrong = httpx.post(there.url + "/v1/decode", json={"codes": [[0, 1], [size, 3]]})
    assert told(wrong) == (
        422,
        "code_out_of_range",
        f"the code at [1, 0] is {size}; codes of this tokenizer are 0 to {size - 1}",
    )


def test_codes_of_another_codebook(there: Served) -> None:
    """409 with both, however the codes name theirs."""
    own, other = tokenizer().fingerprint.codebook, "f" * 64
    made = encoded(there, picture(1), accept="application/json").json()
    made["codebook"] = other
    grid = [[1, 2], [3, 4]]
    for sent in ({"json": made}, {"json": {"codes": grid}, "headers": {"x-vqtok-codebook": other}}):
        refused = httpx.post(there.url + "/v1/decode", **sent)
        assert told(refused)[:2] == (409, "codebook_mismatch")
        assert own in told(refused)[2] and other in told(refused)[2]
    made["codebook"] = own
    back = httpx.post(there.url + "/v1/decode?format=npy", json=made)
    assert back.status_code == 200


# --- clients -------------------------------------------------------------------------------------


def test_clients_that_leave_midway(there: Served) -> None:
    gone, whole = counted(there, 499), picture(1).tobytes()
    for _ in range(8):
        talk(there.url, posted(whole[:5000], SHAPE, length=len(whole)), wait=0.02)
    until(lambda: counted(there, 499) == gone + 8, "all have been noticed")


def test_clients_that_leave_while_they_wait(there: Served) -> None:
    """Their slots come back, and the model never sees their pictures."""
    there.wait_idle()
    gone, before = counted(there, 499), batches(there)
    with stopped(there):
        clients = [connected(there.url) for _ in range(12)]
        for seed, client in enumerate(clients):
            client.sendall(posted(picture(seed).tobytes(), SHAPE))
        until(lambda: there.held() == 12, "all wait")
        for client in clients:
            client.close()
        until(lambda: counted(there, 499) == gone + 12, "all have been noticed")
    there.wait_idle()
    assert batches(there) == before


def test_more_than_there_are_slots(there: Served, pool: ThreadPoolExecutor) -> None:
    """As many as have a slot are answered, the others told at once to come again."""
    with stopped(there):
        asking = asked(pool, there, range(64))
        until(lambda: sum(one.done() for one in asking) == 48, "48 have been refused")
        refused = [one.result() for one in asking if one.done()]
        assert there.held() == 16
    for one in refused:
        said = "all 16 slots for pictures are taken; try again soon"
        assert told(one) == (429, "busy", said)
        assert one.headers["retry-after"] == "1"
    found = Counter(one.result().status_code for one in asking)
    assert found == {200: 16, 429: 48}
    for seed, one in enumerate(asking):
        assert one.result().status_code == 429 or right(one.result().content, picture(seed))


def test_a_connection_is_of_use_after_early_answers(there: Served) -> None:
    """Each is refused before its body is looked at, and the next one on the line is answered."""
    whole = picture(3).tobytes()
    good = posted(whole, SHAPE)
    bad = [
        good.replace(RAW.encode(), b"text/plain", 1),
        good.replace(b"accept: " + RAW.encode(), b"accept: text/html"),
        good.replace(b"/v1/encode", b"/v1/encode?output=words"),
        good.replace(b"/v1/encode", b"/v1/nothing"),
        good.replace(SHAPE.encode(), b"1,2,3"),
    ]
    last = posted(whole, SHAPE, "connection: close")
    answers = talk(there.url, *(part for one in bad for part in (one, good)), last, wait=PATIENCE)
    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [415, 200, 406, 200, 400, 200, 404, 200, 422, 200, 200]


def test_who_waits_to_be_told_is_told_no_without_sending(there: Served) -> None:
    head = posted(b"", SHAPE, "expect: 100-continue", length=100 * MB)
    assert talk(there.url, head).startswith(b"HTTP/1.1 413 ")


def test_every_answer_has_an_id_and_the_fingerprint(there: Served) -> None:
    own = print_text(tokenizer().fingerprint)
    for path in ("/live", "/ready", "/startup", "/metrics", "/v1/model", "/nowhere", "/v1/encode"):
        answer = httpx.get(there.url + path, headers={"x-request-id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        assert answer.headers["x-vqtok-fingerprint"] == own, path


# --- workers -------------------------------------------------------------------------------------


def test_what_a_killed_worker_had_is_done_by_the_next(
    there: Served, pool: ThreadPoolExecutor
) -> None:
    with stopped(there) as worker:
        asking = asked(pool, there, range(12))
        until(lambda: there.held() == 12, "all wait")
        os.kill(worker, signal.SIGKILL)
    for seed, one in enumerate(asking):
        assert one.result().status_code == 200
        assert right(one.result().content, picture(seed))
    assert there.of("worker") not in ([worker], [])
    assert there.metric("vqtok_worker_restarts_total") == 1

"""Rows of failures that took a whole batch, or the whole server, along elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serve_bodies import RAW, WRONG, connected, jpeg, posted, raw, told
from serve_bombs import bombs
from serve_stubs import StubEngine, codes_of, corners, picture, stub_facts

from vqtok.preprocess import prepare
from vqtok.serve.slab import Op

POISON = (1, 2, 3)
PATIENCE = 20.0  # seconds, where nothing is broken by far too many
BAD = 5  # the number of the one that fails


class Gated(StubEngine):
    """Each batch waits until the gate is open; `waits` is how many have come to it."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.gate, self.waits = threading.Event(), 0

    def run(self, *given):
        self.waits += 1
        assert self.gate.wait(PATIENCE)
        return super().run(*given)


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def codes(pixels):
    return codes_of(corners(pixels, clip=False))


def sixteen(ask):
    """What 16 requests at once are answered."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, range(16)))


def files():
    """16 JPEGs, one of which is cut in its middle."""
    found = [jpeg(picture(seed, (80, 96))) for seed in range(16)]
    found[BAD] = found[BAD][: len(found[BAD]) // 2]
    return found


def expected(served, data):
    """The codes of a file, (16, 16)."""
    return codes(prepare(data, served.desks["stub"].facts.preprocess).pixels)


def test_a_corrupt_jpeg_among_sixteen_requests(serve):
    served, sent = serve(), files()
    headers = {"content-type": "image/jpeg", "accept": RAW}
    answers = sixteen(
        lambda n: httpx.post(served.url + "/v1/encode", content=sent[n], headers=headers)
    )
    assert Counter(answer.status_code for answer in answers) == {200: 15, 400: 1}
    bad = told(answers.pop(BAD))
    assert bad[:2] == (400, "not_a_picture")
    assert bad[2].startswith("the picture is broken or cut short: ")
    good = [data for number, data in enumerate(sent) if number != BAD]
    for answer, data in zip(answers, good, strict=True):
        assert answer.content == expected(served, data).tobytes()


def test_a_corrupt_jpeg_among_sixteen_in_one_request(serve):
    served, sent = serve(), files()
    form = [("file", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(sent)]
    answer = httpx.post(served.url + "/v1/encode", files=form)
    found = answer.json()["pictures"]
    assert answer.status_code == 200
    assert [one["status"] for one in found] == [400 if n == BAD else 200 for n in range(16)]
    assert found[BAD]["error"]["message"].startswith(f"picture {BAD} (5.jpg) is broken or cut")
    for number, data in enumerate(sent):
        if number != BAD:
            assert found[number]["codes"] == expected(served, data).tolist()


def test_a_picture_that_the_model_fails_on_among_sixteen_requests(serve):
    """All of them in one batch: the first one keeps the model busy meanwhile."""
    engine = Gated(poison=POISON)
    served = serve(engine)
    pixels = [picture(n, first=POISON if n == BAD else None) for n in range(16)]
    with ThreadPoolExecutor(17) as pool:
        ask = lambda one: httpx.post(served.url + "/v1/encode", **raw(one))  # noqa: E731
        early = pool.submit(ask, picture(99))
        until(lambda: engine.waits)
        asked = [pool.submit(ask, one) for one in pixels]
        until(lambda: served.desks["stub"].in_flight == 17)
        engine.gate.set()
        answers = [one.result() for one in asked]
    assert early.result().status_code == 200
    assert engine.runs[1] == (Op.ENCODE, 16)
    assert told(answers[BAD]) == (
        500,
        "internal",
        "the model failed on this; the log has it under this id",
    )
    for number, answer in enumerate(answers):
        if number != BAD:
            assert answer.content == codes(pixels[number]).tobytes()


@pytest.mark.parametrize("facts", [{}, {"size": None}, {"size": 32, "video": True}])
def test_bombs_are_refused_by_their_headers(serve, facts, monkeypatch):
    """Whoever would decode one is not even asked, and nothing of the kind is decoded to look."""
    decoded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded.append)
    monkeypatch.setattr("vqtok.streams.Video", lambda *_, **__: decoded.append("film"))
    served = serve(StubEngine(stub_facts(**facts)))
    for name, (media, bomb) in bombs().items():
        assert len(bomb) < 120_000
        refused = httpx.post(
            served.url + "/v1/encode", content=bomb, headers={"content-type": media}
        )
        assert told(refused)[:2] == (413, "too_many_pixels"), (name, refused.text)
        assert served.free()
    assert decoded == []


def test_a_bomb_among_others_is_refused_alone(serve):
    served = serve()
    media, bomb = bombs()["png"]
    form = [("f", ("good.jpg", jpeg(picture(1)), "image/jpeg")), ("f", ("bad.png", bomb, media))]
    found = httpx.post(served.url + "/v1/encode", files=form).json()["pictures"]
    assert [one["status"] for one in found] == [200, 413]


@pytest.mark.parametrize(("verb", "media", "body", "expected"), WRONG)
def test_what_is_wrong_with_a_body_is_told(serve, verb, media, body, expected):
    answer = httpx.post(f"{serve().url}/v1/{verb}", content=body, headers={"content-type": media})
    assert told(answer)[:2] == expected


def test_clients_that_leave_are_not_computed_for(serve):
    """All slots but one have been theirs; the next one waits for none of them."""
    engine = Gated()
    served = serve(engine, max_batch=16)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, served.url + "/v1/encode", **raw(picture()))
        until(lambda: engine.waits)
        clients = [connected(served.url) for _ in range(63)]
        for client in clients:
            client.sendall(posted(picture().tobytes(), shape="256,256,3"))
        until(lambda: served.desks["stub"].in_flight == 64)
        for client in clients:
            client.close()
        gone = 'vqtok_requests_total{code="499",model="stub",op="encode"} 63.0'
        until(lambda: gone in httpx.get(served.url + "/metrics").text)
        engine.gate.set()
        assert first.result().status_code == 200
    answer = httpx.post(served.url + "/v1/encode", **raw(picture(7)))
    assert answer.content == codes(picture(7)).tobytes()
    assert engine.runs == [(Op.ENCODE, 1)] * 2
    counted = httpx.get(served.url + "/metrics").text
    assert 'vqtok_pictures_total{code="499",model="stub",op="encode"} 63.0' in counted

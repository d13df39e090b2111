"""A line a request, and what is counted."""

from __future__ import annotations

import json
import re
import threading

import httpx
import numpy as np
from serve_bodies import png, raw, told
from serve_server import settle
from serve_stubs import StubEngine, picture

from vqtok.serve.slab import Op


def logged(served, capfd):
    """The lines of the log so far."""
    done = threading.Event()
    served.loop.call_soon_threadsafe(served.loop.call_later, 0.1, done.set)
    done.wait(5)
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_a_request_is_a_line(serve, capfd):
    served = serve(log="json")
    answer = httpx.post(
        served.url + "/v1/encode?format=raw", **raw(picture(), x_request_id="job-1")
    )
    httpx.get(served.url + "/" + "n" * 300, headers={"x-api-key": "secret"})
    first, second = logged(served, capfd)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first.pop("ms") > 0
    assert first == {
        "id": "job-1",
        "method": "POST",
        "path": "/v1/encode",
        "status": 200,
        "pictures": 1,
        "bytes_in": 196_608,
        "bytes_out": len(answer.content),
        "model": "stub",
        "client": "127.0.0.1",
    }
    assert (second["status"], second["error"], len(second["path"])) == (404, "not_found", 200)


def test_a_server_may_be_silent(serve, capfd):
    served = serve(log="off")
    httpx.get(served.url + "/live")
    assert logged(served, capfd) == []


def test_a_body_that_says_it_is_too_long_counts_as_what_it_was_sent_for(serve):
    served = serve(StubEngine(), max_body=1000)
    for path in ("/v1/encode", "/v1/models/stub/decode"):
        answer = httpx.post(served.url + path, content=bytes(1001))
        assert answer.status_code == 413
    httpx.options(served.url + "/v1/reconstruct")
    text = httpx.get(served.url + "/metrics").text
    assert 'vqtok_requests_total{code="413",model="stub",op="encode"} 1.0' in text
    assert 'vqtok_requests_total{code="413",model="stub",op="decode"} 1.0' in text
    assert 'op="reconstruct"' not in text  # a browser's question is no work


def test_requests_and_pictures_are_counted(serve):
    served = serve(StubEngine(refused=(1, 2, 3)))
    httpx.post(served.url + "/v1/encode", **raw(picture()))
    httpx.post(served.url + "/v1/encode", **raw(picture(1, first=(1, 2, 3))))
    httpx.get(served.url + "/a-path-that-nobody-counts")
    httpx.request("BREW", served.url + "/v1/encode")
    text = httpx.get(served.url + "/metrics").text
    for line in (
        'vqtok_requests_total{code="200",model="stub",op="encode"} 1.0',
        'vqtok_requests_total{code="422",model="stub",op="encode"} 1.0',
        'vqtok_requests_total{code="404",model="",op="other"} 1.0',
        'vqtok_pictures_total{code="200",model="stub",op="encode"} 1.0',
        'vqtok_pictures_total{code="422",model="stub",op="encode"} 1.0',
        'vqtok_slots_free{kind="picture",model="stub"} 64.0',
        'vqtok_in_flight{kind="picture",model="stub"} 0.0',
        'vqtok_workers{model="stub"} 1.0',
    ):
        assert line in text
    assert "nobody" not in text
    assert 'vqtok_request_seconds_count{model="stub",op="encode"} 2.0' in text


def test_kept_answers_count_and_what_was_cut_short(serve):
    served = serve(slots=1)
    codes = {"codes": [[0] * 16] * 16}
    for _ in range(3):
        etag = httpx.post(served.url + "/v1/decode", json=codes).headers["etag"]
    httpx.post(served.url + "/v1/decode", json=codes, headers={"if-none-match": etag})
    many = raw(np.stack([picture(seed) for seed in range(4)]))
    httpx.post(served.url + "/v1/encode", **many | {"content": iter([many["content"][:-5]])})
    text = httpx.get(served.url + "/metrics").text
    for line in (
        'vqtok_pictures_total{code="200",model="stub",op="decode"} 3.0',
        'vqtok_pictures_total{code="304",model="stub",op="decode"} 1.0',
        'vqtok_pictures_total{code="400",model="stub",op="encode"} 4.0',
        'vqtok_request_seconds_count{model="stub",op="decode"} 4.0',
        'vqtok_request_seconds_count{model="stub",op="encode"} 1.0',
    ):
        assert line in text


def test_what_is_not_acceptable_is_counted_once_and_not_worked_on(serve, capfd):
    engine = StubEngine()
    served = serve(engine, log="json")
    two = [("f", (f"{n}.png", png(picture(n, (32, 32))))) for n in range(2)]
    accept = {"accept": "image/png"}
    codes = {"codes": [[[0, 1], [2, 3]]] * 2}
    refused = [
        httpx.post(served.url + "/v1/reconstruct", files=two, headers=accept),
        httpx.post(served.url + "/v1/decode", json=codes, headers=accept),
        httpx.post(served.url + "/v1/decode", json=codes, headers={"accept": "text/html"}),
    ]
    assert [told(one)[:2] for one in refused] == [(406, "not_acceptable")] * 3
    settle(served)
    lines = logged(served, capfd)
    assert engine.runs in ([], [(Op.RECONSTRUCT, 1)])  # of a form, the first is there first
    text = httpx.get(served.url + "/metrics").text
    for op in ("reconstruct", "decode"):
        found = re.findall(rf'vqtok_pictures_total{{code="(\d+)",.*op="{op}"}} (.*)', text)
        told_of = sum(one["pictures"] for one in lines if one["path"].endswith(op))
        assert sum(float(count) for _, count in found) == told_of
        assert {code for code, _ in found} <= {"406"}


def test_refused_requests_take_time_too(serve):
    served = serve(slots=1)
    httpx.post(served.url + "/v1/encode", content=b"x", headers={"content-type": "text/plain"})
    text = httpx.get(served.url + "/metrics").text
    assert 'vqtok_request_seconds_count{model="stub",op="encode"} 1.0' in text

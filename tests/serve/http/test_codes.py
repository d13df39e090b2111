"""Codes and latents in, pictures out; and what is not made twice."""

from __future__ import annotations

import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from serve_bodies import RAW, raw, told
from serve_stubs import StubEngine, picture, pixels_of, stub_facts

from vqtok.serve.slab import Op

GRID = np.random.default_rng(1).integers(0, 4096, (16, 16)).astype(np.uint16)
MANY = np.random.default_rng(2).integers(0, 4096, (5, 16, 16)).astype(np.uint16)
JSON_TYPE = "application/json"
JSON = {"content-type": JSON_TYPE}


def body(codes, **headers):
    named = {
        "content-type": RAW,
        "x-vqtok-shape": ",".join(map(str, codes.shape)),
        "x-vqtok-dtype": codes.dtype.name,
        "accept": RAW,
    }
    more = {name.replace("_", "-"): text for name, text in headers.items()}
    return {"content": codes.tobytes(), "headers": named | more}


def read(answer):
    assert answer.status_code == 200, answer.text
    shape = [int(side) for side in answer.headers["x-vqtok-shape"].split(",")]
    return np.frombuffer(answer.content, answer.headers["x-vqtok-dtype"]).reshape(shape)


def test_codes_become_a_picture(serve):
    url = serve().url
    assert np.array_equal(read(httpx.post(url + "/v1/decode", **body(GRID)))[0], pixels_of(GRID))
    seen = httpx.post(url + "/v1/decode", **body(GRID, accept="*/*"))
    assert seen.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(seen.content))), pixels_of(GRID))


def test_what_encode_answers_can_be_posted_to_decode(serve):
    url = serve().url
    for accept in ("application/json", "application/safetensors", "application/x-npy"):
        codes = httpx.post(url + "/v1/encode", **raw(picture(1), accept=accept))
        back = httpx.post(
            url + "/v1/decode",
            content=codes.content,
            headers={"content-type": codes.headers["content-type"], "accept": RAW},
        )
        again = httpx.post(url + "/v1/encode", **raw(read(back)[0], accept=accept))
        assert again.headers["content-length"] == codes.headers["content-length"]
        assert again.content == codes.content or "safetensors" in accept  # its keys have no order


@pytest.mark.parametrize("slots", [1, 64])
def test_many_codes_keep_their_order_whatever_the_room(serve, slots):
    answer = httpx.post(serve(slots=slots).url + "/v1/decode", **body(MANY))
    assert np.array_equal(read(answer), [pixels_of(codes) for codes in MANY])


def test_latents_are_decoded_too(serve):
    latents = np.random.default_rng(3).integers(0, 16, (2, 16, 16)).astype(np.float32)
    served = serve()
    answer = httpx.post(served.url + "/v1/decode", **body(latents))
    grid = (latents[0] + latents[1] * 256).astype(np.uint16)
    assert np.array_equal(read(answer)[0], pixels_of(grid))
    assert 'op="decode_latents"' in httpx.get(served.url + "/metrics").text


def test_a_code_out_of_range_is_named(serve):
    wrong = GRID.copy()
    wrong[3, 4] = 4096
    refused = httpx.post(serve().url + "/v1/decode", **body(wrong))
    assert told(refused)[:2] == (422, "code_out_of_range")
    assert "4096" in told(refused)[2]


def test_one_that_is_wrong_leaves_the_others(serve):
    wrong = MANY.copy()
    wrong[1, 0, 0] = 5000
    answer = httpx.post(serve().url + "/v1/decode", **body(wrong))
    assert answer.headers["x-vqtok-status"] == "200,422,200,200,200"
    assert np.array_equal(read(answer), [pixels_of(codes) for codes in np.delete(MANY, 1, 0)])
    assert "etag" not in answer.headers


def test_what_a_body_says_of_a_failure_is_no_status_of_ours(serve):
    url = serve().url
    raw_ = httpx.post(url + "/v1/decode", **body(GRID[None], x_vqtok_status="200,503"))
    assert raw_.headers["x-vqtok-status"] == "200,400"
    wrong = {"status": 999, "error": {"status": 999, "code": "magic", "message": "no"}}
    told_of = httpx.post(
        url + "/v1/decode", content=json.dumps({"pictures": [wrong]}), headers=JSON
    )
    assert told(told_of)[:2] == (400, "missing_part")


def test_codes_of_another_codebook_are_refused_with_both_prints(serve):
    url = serve().url
    refused = httpx.post(url + "/v1/decode", **body(GRID, x_vqtok_codebook="a" * 64))
    status, code, message = told(refused)
    assert (status, code) == (409, "codebook_mismatch")
    assert "a" * 8 in message
    assert "2" * 8 in message
    assert httpx.post(url + "/v1/decode", **body(GRID, x_vqtok_codebook="2" * 64)).is_success


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", (400, "bad_json")),
        (b'{"codes": [[1.5]]}', (422, "not_codes")),
        (b'{"codes": [[[1], [2, 3]]]}', (422, "wrong_shape")),
        (b'{"pictures": []}', (400, "empty")),
    ],
)
def test_what_is_no_codes_is_told_so(serve, content, expected):
    answer = httpx.post(serve().url + "/v1/decode", content=content, headers=JSON)
    assert told(answer)[:2] == expected


def test_several_pictures_are_why_there_is_no_png(serve):
    url = serve().url + "/v1/decode"
    two = json.dumps({"codes": MANY[:2].tolist()}).encode()
    said = (
        "image/png holds one picture, and these are 2: ask for application/json, "
        "application/safetensors, application/x-npy, application/octet-stream, or send them one by "
        "one"
    )
    for query, accept in (("?format=png", {}), ("", {"accept": "image/png"})):
        refused = httpx.post(url + query, content=two, headers={**JSON, **accept})
        assert told(refused) == (406, "not_acceptable", said)
    again = httpx.post(
        url.replace("decode", "reconstruct"), **raw(np.stack([picture()] * 2), accept="image/png")
    )
    assert told(again) == (406, "not_acceptable", said)
    neither = httpx.post(url, content=two, headers={**JSON, "accept": "text/html"})
    assert told(neither)[2].endswith("; Accept asks for 'text/html'")


def test_raw_codes_need_no_dtype_and_lines_are_taken(serve):
    url = serve().url + "/v1/decode"
    plain = body(GRID)
    del plain["headers"]["x-vqtok-dtype"]
    assert np.array_equal(read(httpx.post(url, **plain))[0], pixels_of(GRID))
    lines = "".join(json.dumps({"codes": one.tolist()}) + "\n" for one in MANY)
    headers = {"content-type": "application/jsonl", "accept": RAW}
    answer = httpx.post(url, content=lines.encode(), headers=headers)
    assert np.array_equal(read(answer), [pixels_of(one) for one in MANY])


def test_a_grid_that_is_larger_than_is_made_here(serve):
    large = np.zeros((128, 128), np.uint16)
    url = serve(max_area=1 << 20).url
    refused = httpx.post(url + "/v1/decode", **body(large))
    said = "these codes stand for 2048 x 2048 pixels; at most 1,048,576 are made here"
    assert told(refused) == (413, "too_many_pixels", said)


def test_an_answer_to_many_is_bounded(serve):
    url = serve(max_body="100kB").url
    refused = httpx.post(url + "/v1/decode", **body(MANY))
    said = "the answer would have more than 400,000 bytes of pixels; ask for fewer"
    assert told(refused) == (413, "too_large", said)


# --- what is not made twice -----------------------------------------------------------------------


def decodes(engine):
    return [op for op, _ in engine.runs].count(Op.DECODE)


def test_the_same_codes_are_decoded_once(serve):
    engine = StubEngine()
    served = serve(engine)
    first = httpx.post(served.url + "/v1/decode", **body(GRID))
    kept = httpx.post(served.url + "/v1/decode", **body(GRID))
    assert kept.content == first.content
    assert kept.headers["etag"] == first.headers["etag"]
    assert kept.headers["x-vqtok-shape"] == first.headers["x-vqtok-shape"]
    assert decodes(engine) == 1
    httpx.post(served.url + "/v1/decode", **body(GRID, accept="image/png"))
    httpx.post(served.url + "/v1/decode", **body(GRID[::-1].copy()))
    assert decodes(engine) == 3


def test_a_client_that_has_the_answer_is_told_so(serve):
    engine = StubEngine()
    url = serve(engine, cache=0).url
    etag = httpx.post(url + "/v1/decode", **body(GRID)).headers["etag"]
    again = httpx.post(url + "/v1/decode", **body(GRID, if_none_match=f'"x", {etag}'))
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert decodes(engine) == 1
    other = httpx.post(url + "/v1/decode", **body(GRID, if_none_match='"x"'))
    assert other.status_code == 200
    assert decodes(engine) == 2


def test_any_answer_is_one_that_a_client_has(serve):
    engine = StubEngine()
    answer = httpx.post(serve(engine).url + "/v1/decode", **body(GRID, if_none_match="*"))
    assert (answer.status_code, answer.content) == (304, b"")
    assert decodes(engine) == 0


def test_paths_with_and_without_a_name_keep_the_same_answers(serve):
    engine = StubEngine()
    url = serve(engine).url
    httpx.post(url + "/v1/decode", **body(GRID))
    httpx.post(url + "/v1/models/stub/decode", **body(GRID))
    assert decodes(engine) == 1


@pytest.mark.parametrize("part", ["preprocess", "encoder"])
def test_an_etag_is_of_every_byte(serve, part):
    print_ = stub_facts().fingerprint.to_dict() | {part: "f" * 64}
    other = stub_facts(fingerprint=type(stub_facts().fingerprint).from_dict(print_))
    answers = [
        httpx.post(serve(StubEngine(facts)).url + "/v1/decode", **body(GRID, accept=JSON_TYPE))
        for facts in (stub_facts(), other)
    ]
    assert answers[0].content != answers[1].content
    assert answers[0].headers["etag"] != answers[1].headers["etag"]


def test_an_etag_changes_with_the_decoder_and_the_medium(serve):
    print_ = stub_facts().fingerprint.to_dict()
    prints = {**print_, "decoder": "f" * 64}
    one = StubEngine(stub_facts("a"))
    two = StubEngine(stub_facts("b", fingerprint=type(one.facts.fingerprint).from_dict(prints)))
    url = serve({"a": one, "b": two}).url
    etags = {
        httpx.post(f"{url}/v1/models/{name}/decode", **body(GRID, accept=accept)).headers["etag"]
        for name in "ab"
        for accept in (RAW, "image/png")
    }
    assert len(etags) == 4


def test_a_kept_answer_needs_no_slot(serve):
    served = serve(slots=1)
    httpx.post(served.url + "/v1/decode", **body(GRID))
    taken = served.desks["stub"].claim
    held = run(served, lambda: taken())
    assert httpx.post(served.url + "/v1/decode", **body(GRID)).status_code == 200
    assert httpx.post(served.url + "/v1/decode", **body(GRID + 0 * GRID - GRID)).status_code == 429
    run(served, held.close)


def run(served, function):
    """What a function gives on the server's loop."""
    import asyncio

    async def called():
        return function()

    return asyncio.run_coroutine_threadsafe(called(), served.loop).result(5)


# --- clips ----------------------------------------------------------------------------------------


def test_the_codes_of_a_clip_become_a_clip(serve):
    codes = np.random.default_rng(1).integers(0, 4096, (8, 2, 2)).astype(np.uint16)
    url = serve(StubEngine(stub_facts(size=32, video=True)), max_frames=64).url
    answer = httpx.post(url + "/v1/decode", **body(codes, x_vqtok_sizes="30x32x32"))
    assert np.array_equal(read(answer).reshape(30, 32, 32, 3), pixels_of(codes, (30, 32, 32)))
    long = np.zeros((17, 2, 2), np.uint16)
    assert told(httpx.post(url + "/v1/decode", **body(long))) == (
        413,
        "too_many_frames",
        "these codes stand for 68 frames; at most 64 are made here",
    )


def test_json_of_several_holds_each(serve):
    answer = httpx.post(serve().url + "/v1/decode", **body(MANY, accept="*/*"))
    assert answer.headers["content-type"] == "application/json"
    assert [one["status"] for one in json.loads(answer.content)["pictures"]] == [200] * 5

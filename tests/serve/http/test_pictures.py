"""Pictures and clips in: one, many, wrong, too many, and what is left when things go wrong."""

from __future__ import annotations

import json
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image
from serve_bodies import RAW, jpeg, png, raw, talk, told
from serve_stubs import StubEngine, codes_of, corners, picture, pixels_of, stub_facts

from vqtok.preprocess import prepare

POISON = (1, 2, 3)
REFUSED = (3, 2, 1)


def codes(pixels):
    return codes_of(corners(pixels, clip=False))


def read(answer):
    assert answer.status_code == 200, answer.text
    shape = [int(side) for side in answer.headers["x-vqtok-shape"].split(",")]
    return np.frombuffer(answer.content, answer.headers["x-vqtok-dtype"]).reshape(shape)


def test_pixels_come_back_as_codes(serve):
    pixels = picture(3)
    answer = httpx.post(serve().url + "/v1/encode", **raw(pixels))
    assert np.array_equal(read(answer)[0], codes(pixels))
    assert answer.headers["x-vqtok-sizes"] == "256x256"
    stages = [part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert stages == ["queue", "model"]


def test_json_is_what_is_answered_where_nobody_says(serve):
    pixels = picture(4)
    answer = httpx.post(
        serve().url + "/v1/encode", content=png(pixels), headers={"content-type": "image/png"}
    )
    (one,) = answer.json()["pictures"]
    assert (one["status"], one["grid"], one["size"]) == (200, [16, 16], [256, 256])
    assert one["codes"] == codes(pixels).tolist()
    stages = [part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert stages == ["decode", "queue", "model"]


def test_a_file_is_prepared_as_the_tokenizer_does_it(serve):
    pixels = picture(5, (300, 420))
    served = serve()
    answer = httpx.post(
        served.url + "/v1/encode?format=raw",
        content=jpeg(pixels),
        headers={"content-type": "image/jpeg"},
    )
    settings = served.desks["stub"].facts.preprocess
    assert np.array_equal(read(answer)[0], codes(prepare(jpeg(pixels), settings).pixels))


def test_pixels_of_another_size_are_prepared_too(serve):
    pixels = picture(5, (300, 420))
    served = serve()
    answer = httpx.post(served.url + "/v1/encode", **raw(pixels))
    settings = served.desks["stub"].facts.preprocess
    assert np.array_equal(read(answer)[0], codes(prepare(pixels, settings).pixels))


def test_latents_come_along_where_they_are_asked_for(serve):
    pixels = picture(6)
    answer = httpx.post(serve().url + "/v1/encode?output=latents", **raw(pixels))
    assert np.array_equal(read(answer)[0], np.moveaxis(corners(pixels, False)[..., :2], -1, 0))


def test_latents_that_a_tokenizer_does_not_give_are_refused(serve):
    url = serve(StubEngine(stub_facts(latent_channels=None))).url
    refused = httpx.post(url + "/v1/encode?output=latents", **raw(picture()))
    assert told(refused) == (422, "cannot_be_done", "stub gives no latents, only codes")
    unknown = httpx.post(url + "/v1/encode?output=latent", **raw(picture()))
    assert told(unknown) == (400, "bad_request", "output is codes or latents; got 'latent'")


def test_a_reconstruction_is_what_its_codes_stand_for(serve):
    pixels = picture(7)
    answer = httpx.post(serve().url + "/v1/reconstruct", **raw(pixels))
    assert np.array_equal(read(answer)[0], pixels_of(codes(pixels)))
    seen = httpx.post(serve().url + "/v1/reconstruct", **raw(pixels, accept="image/*"))
    assert seen.headers["content-type"] == "image/png"


# --- many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 64])
def test_many_pictures_keep_their_order_whatever_the_room(serve, slots):
    many = np.stack([picture(seed) for seed in range(9)])
    answer = httpx.post(serve(slots=slots).url + "/v1/encode", **raw(many))
    assert np.array_equal(read(answer), [codes(one) for one in many])
    assert answer.headers["x-vqtok-sizes"] in ("256x256", ",".join(["256x256"] * 9))


def test_many_files_come_as_a_form(serve):
    pixels = [picture(1), picture(2, (64, 80))]
    files = [("file", ("a.png", png(pixels[0]))), ("file", ("b.png", png(pixels[1])))]
    served = serve(slots=1)
    answer = httpx.post(served.url + "/v1/encode", files=files)
    settings = served.desks["stub"].facts.preprocess
    found = [one["codes"] for one in answer.json()["pictures"]]
    assert found == [codes(prepare(one, settings).pixels).tolist() for one in pixels]


def test_one_that_fails_leaves_the_others(serve):
    url = serve(StubEngine(poison=POISON, refused=REFUSED)).url
    many = np.stack([picture(1), picture(2, first=POISON), picture(3), picture(4, first=REFUSED)])
    answer = httpx.post(url + "/v1/encode", **raw(many))
    assert answer.headers["x-vqtok-status"] == "200,500,200,422"
    assert np.array_equal(read(answer), [codes(many[0]), codes(many[2])])
    said = httpx.post(url + "/v1/encode", **raw(many, accept="application/json")).json()["pictures"]
    assert said[3]["error"]["message"] == "this picture cannot be done"
    assert [one["status"] for one in said] == [200, 500, 200, 422]


def test_a_broken_file_among_others_is_named(serve):
    files = [("f", ("a.png", png(picture(1)))), ("f", ("b.png", png(picture(2))[:900]))]
    said = httpx.post(serve().url + "/v1/encode", files=files).json()["pictures"]
    assert [one["status"] for one in said] == [200, 400]
    assert said[1]["error"]["code"] == "not_a_picture"
    assert said[1]["error"]["message"].startswith("picture 1 (b.png) is broken or cut short")


def test_where_all_fail_the_first_one_decides(serve):
    url = serve(StubEngine(poison=POISON, refused=REFUSED)).url
    one = httpx.post(url + "/v1/encode", **raw(picture(1, first=REFUSED)))
    assert told(one) == (422, "cannot_be_done", "this picture cannot be done")
    many = np.stack([picture(1, first=REFUSED), picture(2, first=POISON)])
    answer = httpx.post(url + "/v1/encode", **raw(many))
    assert told(answer) == (422, "cannot_be_done", "this picture cannot be done")
    assert [one["status"] for one in answer.json()["pictures"]] == [422, 500]


def test_requests_that_compete_for_slots_all_get_through(serve):
    served = serve(StubEngine(per_batch=0.002), slots=2)
    many = np.stack([picture(seed) for seed in range(12)])
    with ThreadPoolExecutor(4) as pool:
        ask = lambda _: httpx.post(served.url + "/v1/encode", timeout=30, **raw(many))  # noqa: E731
        answers = list(pool.map(ask, range(4)))
    done = [answer for answer in answers if answer.status_code == 200]
    # Who finds no slot for the first picture is told at once; the others wait for theirs.
    assert done
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert all(np.array_equal(read(answer), [codes(one) for one in many]) for answer in done)


# --- wrong, and too much --------------------------------------------------------------------------


def test_too_few_and_too_many_bytes(serve):
    url = serve().url
    body = raw(picture())
    whole = body["content"]
    for content, code, message in (
        (whole[:-1], "truncated", "the pixels take 196,608 bytes; the body has 196,607"),
        (whole + b"x", "wrong_shape", "the pixels take 196,608 bytes; the body has more"),
    ):
        assert told(httpx.post(url + "/v1/encode", **body | {"content": content}))[1:] == (
            code,
            message,
        )
        pieces = iter([content[:100_000], content[100_000:]])
        assert told(httpx.post(url + "/v1/encode", **body | {"content": pieces}))[1:] == (
            code,
            message,
        )


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_told_so(serve, chunked):
    url = serve(max_body="1MB").url
    body = b"x" * 3_000_000
    content = iter([body[i : i + 100_000] for i in range(0, len(body), 100_000)])
    with httpx.Client() as client:
        refused = client.post(
            url + "/v1/encode",
            content=content if chunked else body,
            headers={"content-type": "image/png"},
        )
        said = "the body is larger than 1,000,000 bytes, which this server takes at most"
        assert told(refused) == (413, "too_large", said)
        assert client.get(url + "/live").status_code == 200


def test_more_pictures_than_are_taken(serve):
    many = np.zeros((5, 256, 256, 3), np.uint8)
    assert told(httpx.post(serve(max_images=4).url + "/v1/encode", **raw(many)))[:2] == (
        413,
        "too_many_images",
    )


def test_a_bomb_is_refused_by_its_header(serve):
    bomb = png(np.zeros((3000, 3000, 3), np.uint8))
    refused = httpx.post(
        serve(max_pixels=1_000_000).url + "/v1/encode",
        content=bomb,
        headers={"content-type": "image/png"},
    )
    assert told(refused) == (
        413,
        "too_many_pixels",
        "the picture is 3000 wide and 3000 high; at most 1,000,000 pixels are taken here "
        "(max_pixels; the option --max-pixels)",
    )


def test_what_pillow_itself_refuses_is_told_with_the_limit_here(serve):
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b""),
    )
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks
    )
    for engine in (None, StubEngine(stub_facts(size=None))):
        refused = httpx.post(
            serve(engine).url + "/v1/encode", content=bomb, headers={"content-type": "image/png"}
        )
        assert told(refused) == (
            413,
            "too_many_pixels",
            "the picture has more than the 50,000,000 pixels that are taken here (max_pixels; the "
            "option --max-pixels)",
        )


def test_a_picture_that_does_not_fit_is_one_all_the_same(serve):
    long = np.zeros((20, 5000, 3), np.uint8)
    native = serve(StubEngine(stub_facts(size=None))).url
    too_small = "1 wide and 1 high; policy 'native' needs at least one cell of 16 x 16 pixels"
    for url, pixels, said in (
        (serve().url, long, "5000 wide and 20 high; one side is at most 200 times the other"),
        (native, long[:1, :1], too_small),
    ):
        for body in (
            raw(pixels),
            {"content": png(pixels), "headers": {"content-type": "image/png"}},
        ):
            expected = (422, "picture_does_not_fit", f"the picture is {said}")
            assert told(httpx.post(url + "/v1/encode", **body)) == expected


@pytest.mark.parametrize("headers", [{}, {"content-type": RAW}, {"content-type": "image/*"}])
def test_a_picture_is_known_by_its_first_bytes(serve, headers):
    pixels = picture(4)
    answer = httpx.post(serve().url + "/v1/encode", content=png(pixels), headers=headers)
    assert answer.json()["pictures"][0]["codes"] == codes(pixels).tolist()
    assert answer.content.endswith(b"}\n")


def test_a_form_of_fields_is_refused_with_a_hint(serve):
    form = {"content-type": "application/x-www-form-urlencoded"}
    refused = httpx.post(serve().url + "/v1/encode", content=png(picture()), headers=form)
    assert refused.content.endswith(b"}\n")
    assert told(refused)[:2] == (415, "unsupported_media_type")
    assert "curl --data-binary" in told(refused)[2]


def test_what_keeps_its_size_must_fit_a_slot(serve):
    url = serve(StubEngine(stub_facts(size=None)), max_area=64 * 64).url
    small = httpx.post(url + "/v1/encode", **raw(picture(1, (48, 80))))
    assert small.headers["x-vqtok-shape"] == "1,3,5"
    said = (
        "the picture is 80 wide and 64 high; this tokenizer keeps sizes, and at most 4,096 pixels "
        "are taken here: make it smaller"
    )
    for body in (
        raw(picture(1, (64, 80))),
        {"content": png(picture(1, (70, 90))), "headers": {"content-type": "image/png"}},
    ):
        assert told(httpx.post(url + "/v1/encode", **body)) == (413, "too_many_pixels", said)


@pytest.mark.parametrize(
    ("headers", "content", "expected"),
    [
        ({"content-type": "text/plain"}, b"x", (415, "unsupported_media_type")),
        ({"content-type": "image/png"}, b"not a picture", (400, "not_a_picture")),
        ({"content-type": "image/png"}, b"", (400, "empty")),
        ({"content-type": "application/json"}, b"{", (400, "bad_json")),
        ({"content-type": RAW}, b"x", (400, "missing_header")),
        ({"content-type": "image/png", "accept": "text/html"}, b"x", (406, "not_acceptable")),
    ],
)
def test_what_is_no_picture_is_told_so(serve, headers, content, expected):
    answer = httpx.post(serve().url + "/v1/encode", content=content, headers=headers)
    assert told(answer)[:2] == expected


def test_a_medium_that_cannot_be_had_is_told_with_those_that_can(serve):
    url = serve().url
    refused = httpx.post(url + "/v1/encode", **raw(picture(), accept="image/png;q=0.5"))
    assert told(refused)[2] == (
        "this is answered as application/json, application/safetensors, application/x-npy, "
        "application/octet-stream; Accept asks for 'image/png;q=0.5'"
    )


def test_a_full_server_says_so_and_takes_the_next(serve):
    served = serve(StubEngine(per_batch=0.3), slots=1)
    with ThreadPoolExecutor(6) as pool:
        ask = lambda seed: httpx.post(served.url + "/v1/encode", **raw(picture(seed)))  # noqa: E731
        answers = list(pool.map(ask, range(6)))
    full = [answer for answer in answers if answer.status_code == 429]
    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    assert told(full[0])[1:] == ("busy", "all 1 slots for pictures are taken; try again soon")
    assert full[0].headers["retry-after"] == "1"
    assert httpx.post(served.url + "/v1/encode", **raw(picture())).status_code == 200


def test_a_deadline_ends_the_wait(serve):
    served = serve(StubEngine(hang=POISON, hang_seconds=0.8), timeout=0.2)
    late = httpx.post(served.url + "/v1/encode", **raw(picture(1, first=POISON)))
    assert told(late) == (504, "deadline", "the answer was not there in time")


def test_an_engine_that_fails_is_a_500_with_an_id_and_a_trace(serve, capfd):
    served = serve(StubEngine(poison=POISON), log="json")
    failed = httpx.post(served.url + "/v1/encode", **raw(picture(1, first=POISON)))
    assert told(failed)[:2] == (500, "internal")
    assert "poisoned" not in failed.text
    lines = logged(served, capfd)
    (trace,) = [line for line in lines if line.get("level") == "error"]
    assert trace["id"] == failed.headers["x-request-id"]
    assert "a poisoned picture" in trace["trace"]


def logged(served, capfd):
    """The lines of the log so far."""
    httpx.get(served.url + "/live")
    done = threading.Event()
    served.loop.call_soon_threadsafe(served.loop.call_later, 0.1, done.set)
    done.wait(5)
    out = capfd.readouterr().out
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


# --- clients that leave, or dawdle ----------------------------------------------------------------


def head(length, *more):
    lines = [
        "POST /v1/encode HTTP/1.1",
        "host: x",
        "content-type: application/octet-stream",
        "x-vqtok-shape: 256,256,3",
        "x-vqtok-dtype: uint8",
        f"content-length: {length}",
        *more,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def test_a_client_that_leaves_midway_costs_nothing(serve, capfd):
    served = serve(StubEngine(per_batch=0.3), log="json")
    body = picture().tobytes()
    talk(served.url, head(196_608), body[:100_000], wait=0.05)
    talk(served.url, head(196_608), body, wait=0.12)
    # Its slot comes back when the worker has done with it; nobody else waits for that.
    assert httpx.post(served.url + "/v1/encode", **raw(picture())).status_code == 200
    statuses = [line["status"] for line in logged(served, capfd) if line["path"] == "/v1/encode"]
    assert statuses == [499, 499, 200]
    counted = httpx.get(served.url + "/metrics").text
    assert 'vqtok_requests_total{code="499",model="stub",op="encode"} 2.0' in counted


def test_a_client_that_leaves_many_pictures_costs_nothing(serve):
    served = serve(StubEngine(per_batch=0.1), slots=2)
    many = np.stack([picture(seed) for seed in range(8)])
    whole = head(8 * 196_608).replace(b"256,256,3", b"8,256,256,3")
    talk(served.url, whole, many.tobytes()[: 5 * 196_608 + 7], wait=0.1)


def test_a_body_that_stalls_is_given_up(serve):
    served = serve(timeout=0.3)
    answer = talk(served.url, head(196_608), b"x" * 1000, wait=4)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert b'"code":"body_stalled"' in answer


def test_who_waits_to_be_told_is_told_no_without_sending(serve):
    served = serve(max_body=1000)
    answer = talk(served.url, head(196_608, "expect: 100-continue"), wait=3)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_who_waits_to_be_told_is_told_to_send(serve):
    served = serve()
    body = picture().tobytes()
    answer = talk(served.url, head(196_608, "expect: 100-continue", "connection: close"), body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_a_connection_is_of_use_after_an_early_answer(serve):
    served = serve()
    bad = head(196_608).replace(b"application/octet-stream", b"text/plain")
    good = head(196_608, "connection: close")
    body = picture().tobytes()
    answer = talk(served.url, bad, body, good, body)
    assert answer.count(b"HTTP/1.1 415 ") == 1
    assert answer.count(b"HTTP/1.1 200 ") == 1


def test_requests_one_behind_the_other_are_answered_in_order(serve):
    served = serve()
    body = picture().tobytes()
    last = head(196_608, "connection: close")
    answer = talk(served.url, (head(196_608) + body) * 3 + last + body)
    assert answer.count(b"HTTP/1.1 200 ") == 4


# --- clips ----------------------------------------------------------------------------------------


def clip_engine(**changes):
    return StubEngine(stub_facts(size=32, video=True), **changes)


def test_a_clip_goes_into_a_slot_of_its_own(serve):
    clip = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    served = serve(clip_engine(), max_frames=16)
    answer = httpx.post(served.url + "/v1/encode", **raw(clip))
    assert np.array_equal(read(answer).reshape(2, 2, 2), codes_of(corners(clip, clip=True)))
    back = httpx.post(served.url + "/v1/reconstruct", **raw(clip))
    expected = pixels_of(codes_of(corners(clip, clip=True)), (8, 32, 32))
    assert np.array_equal(read(back).reshape(8, 32, 32, 3), expected)


def test_frames_of_another_size_are_prepared_one_by_one(serve):
    clip = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8)
    served = serve(clip_engine(), max_frames=16)
    answer = httpx.post(served.url + "/v1/encode", **raw(clip))
    settings = served.desks["stub"].facts.preprocess
    prepared = np.stack([prepare(frame, settings).pixels for frame in clip])
    assert np.array_equal(read(answer).reshape(2, 2, 2), codes_of(corners(prepared, clip=True)))


def test_an_animation_is_a_clip(serve, tmp_path):
    frames = [Image.fromarray(picture(seed, (32, 32))) for seed in range(4)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    answer = httpx.post(
        serve(clip_engine(), max_frames=16).url + "/v1/encode",
        content=(tmp_path / "a.webp").read_bytes(),
        headers={"content-type": "image/webp", "accept": RAW},
    )
    clip = np.stack([np.asarray(frame) for frame in frames])
    assert np.array_equal(read(answer).reshape(1, 2, 2), codes_of(corners(clip, clip=True)))


def test_a_clip_with_too_many_frames_is_refused(serve):
    clip = np.zeros((9, 40, 40, 3), np.uint8)
    refused = httpx.post(serve(clip_engine(), max_frames=8).url + "/v1/encode", **raw(clip))
    assert told(refused)[:2] == (413, "too_many_frames")


def test_a_picture_is_a_clip_of_one_frame(serve):
    answer = httpx.post(serve(clip_engine()).url + "/v1/encode", **raw(picture(1, (32, 32))))
    assert np.array_equal(read(answer).reshape(2, 2), codes(picture(1, (32, 32))))

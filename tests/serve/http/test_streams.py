"""Clips longer than a slot over HTTP: the same codes and frames, chunk by chunk."""

from __future__ import annotations

import io
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from safetensors.numpy import load
from serve_bodies import png, raw, told
from serve_kinds import CLIPS, clip, kind
from serve_server import serving
from serve_stubs import StubEngine, codes_of, corners, picture, pixels_of, stub_facts

from vqtok.preprocess import preprocess_frames
from vqtok.serve.engine import TokenizerEngine
from vqtok.serve.http.faults import fault_of
from vqtok.serve.outcomes import Severed
from vqtok.serve.slab import Op
from vqtok.serve.streams import SEVERED

NPY = {"accept": "application/x-npy"}
LONG = picture(1, (100, 32, 32))
CODES = codes_of(corners(LONG, clip=True))


@pytest.fixture(scope="module", params=CLIPS)
def real(request):
    """A server of a toy, whose slots hold 8 frames, and its tokenizer."""
    tok = kind(request.param)
    engine = TokenizerEngine(tok, name="toy", tokenizer="toy")
    with serving(engine, slot_frames=8) as served:
        yield served.url, tok


def stub(serve, engine=None, **settings):
    engine = engine or StubEngine(stub_facts(size=32, video=True))
    return serve(engine, **{"slot_frames": 8, **settings})


def open_ended(frames, **headers):
    """A request that does not say how many frames there are."""
    shape = ",".join(["*", *map(str, frames.shape[1:])])
    sent = raw(frames, x_vqtok_shape=shape, **headers)
    return sent | {"content": (frame.tobytes() for frame in frames)}


def array(answer):
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))[0]


def movie(frames, kind=".mkv"):
    pytest.importorskip("av", reason="PyAV is not installed")
    from vqtok.movies import write_movie

    file = io.BytesIO()
    write_movie(frames, file, kind=kind)
    return file.getvalue()


# --- what comes of a clip -------------------------------------------------------------------------


def test_a_long_clip_has_the_codes_of_its_tokenizer(real):
    url, tok = real
    frames = clip(100)
    wanted = tok.encode_clip(frames)
    for sent in (raw(frames, **NPY), open_ended(frames, **NPY)):
        answer = httpx.post(f"{url}/v1/encode", **sent)
        assert np.array_equal(array(answer), wanted.ids[0])
        assert answer.headers["x-vqtok-sizes"] == "100x16x16"


def test_frames_may_be_more_than_a_body(serve):
    served = stub(serve, max_body=100_000)
    for sent in (raw(LONG, **NPY), open_ended(LONG, **NPY)):
        assert np.array_equal(array(httpx.post(f"{served.url}/v1/encode", **sent)), CODES)


def test_so_has_one_that_ends_within_a_token(real):
    url, tok = real
    for count in (8, 9, 17, 23):
        frames = clip(count, seed=count)
        answer = httpx.post(f"{url}/v1/encode", **open_ended(frames, **NPY))
        assert np.array_equal(array(answer), tok.encode_clip(frames).ids[0])


def test_codes_of_a_long_clip_are_its_frames(real):
    url, tok = real
    codes = tok.encode_clip(clip(30))
    wanted = np.stack(list(tok.codec.decode_frames(codes)))
    body = {"codes": codes.ids[0].tolist(), "size": [30, 16, 16]}
    for media in ("npy", "raw", "safetensors"):
        answer = httpx.post(f"{url}/v1/decode?format={media}", json=body)
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["x-vqtok-shape"] == "1,30,16,16,3"
        assert np.array_equal(pixels_in(answer, media), wanted)


def pixels_in(answer, media):
    assert answer.status_code == 200, answer.text
    if media == "npy":
        return array(answer)
    if media == "safetensors":
        return load(answer.content)["pixels"][0]
    shape = tuple(map(int, answer.headers["x-vqtok-shape"].split(",")))
    return np.frombuffer(answer.content, np.uint8).reshape(shape)[0]


def test_a_long_clip_comes_back(real):
    url, tok = real
    frames = clip(21, seed=5)
    codes = tok.encode_clip(frames)
    wanted = np.stack(list(tok.codec.decode_frames(codes)))
    answer = httpx.post(f"{url}/v1/reconstruct?format=safetensors", **raw(frames))
    found = load(answer.content)
    assert np.array_equal(found["codes"], codes.ids)
    assert np.array_equal(found["pixels"][0], wanted)
    assert found["sizes"].tolist() == [[21, 16, 16]]


def test_latents_of_a_long_clip(real):
    url, tok = real
    frames = clip(21, seed=6)
    latents, codes = tok.codec.encode_frame_latents(iter(frames), (16, 16))
    answer = httpx.post(f"{url}/v1/encode?output=latents&format=safetensors", **raw(frames))
    found = load(answer.content)
    assert np.array_equal(found["codes"], codes.ids)
    assert np.array_equal(found["latents"], latents)
    wanted = np.stack(list(tok.codec.decode_frames(codes)))
    named = {"content-type": "application/safetensors", **NPY}
    back = httpx.post(f"{url}/v1/decode", content=answer.content, headers=named)
    assert np.array_equal(array(back), wanted)
    only = {"content-type": "application/x-npy", "x-vqtok-sizes": "21x16x16", **NPY}
    file = io.BytesIO()
    np.save(file, latents[0])
    back = httpx.post(f"{url}/v1/decode", content=file.getvalue(), headers=only)
    assert np.array_equal(array(back), wanted)


def test_frames_that_must_be_prepared(serve):
    frames = picture(2, (20, 40, 36))
    answer = httpx.post(f"{stub(serve).url}/v1/encode", **raw(frames, **NPY))
    prepared = list(preprocess_frames(frames, stub_facts(size=32, video=True).preprocess))
    assert np.array_equal(array(answer), codes_of(corners(np.stack(prepared), clip=True)))


@pytest.mark.parametrize("limit", [64_000_000, 50_000])
def test_a_film_in_a_file(serve, limit):
    """Also one that is too long to be held."""
    film = movie(LONG)
    assert len(film) > 50_000
    served = stub(serve, max_body=limit)
    for named in ({"content-type": "video/x-matroska"}, {}):
        answer = httpx.post(f"{served.url}/v1/encode", content=film, headers={**NPY, **named})
        assert np.array_equal(array(answer), CODES)


def test_a_film_whose_length_is_not_told(serve):
    film = movie(LONG)
    pieces = (film[at : at + 1000] for at in range(0, len(film), 1000))
    served = stub(serve, max_body=50_000)
    answer = httpx.post(f"{served.url}/v1/encode", content=pieces, headers=NPY)
    assert np.array_equal(array(answer), CODES)


def test_a_small_body_whose_length_is_not_told_may_be_anything(serve):
    served = stub(serve)
    file = io.BytesIO()
    np.save(file, LONG[:6])
    for body in (png(LONG[0]), file.getvalue()):
        answer = httpx.post(f"{served.url}/v1/encode", content=iter([body[:9], body[9:]]))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("media", ["json", "mp4", "gif"])
def test_media_that_cannot_be_sent_as_they_are_made(serve, media):
    if media == "mp4":
        pytest.importorskip("av", reason="PyAV is not installed")
    served = stub(serve)
    body = {"codes": CODES[:6].tolist(), "size": [22, 32, 32]}
    answer = httpx.post(f"{served.url}/v1/decode?format={media}", json=body)
    made = httpx.post(f"{served.url}/v1/reconstruct?format={media}", **raw(LONG[:22]))
    for one in (answer, made):
        assert one.status_code == 200, one.text
        assert one.headers["x-vqtok-shape"] == "1,22,32,32,3"
    if media == "json":
        assert [len(one["frames"]) for one in answer.json()["pictures"]] == [22]
    elif media == "mp4":
        import av

        with av.open(io.BytesIO(answer.content)) as film:
            assert sum(1 for _ in film.decode(video=0)) == 22


def test_several_long_clips_in_a_request(serve):
    served = stub(serve)
    clips = picture(3, (3, 20, 32, 32))
    answer = httpx.post(f"{served.url}/v1/encode", **raw(clips, **NPY))
    wanted = [codes_of(corners(one, clip=True)) for one in clips]
    assert np.array_equal(np.load(io.BytesIO(answer.content)), wanted)
    made = httpx.post(f"{served.url}/v1/reconstruct", **raw(clips, **NPY))
    back = [pixels_of(codes, (20, 32, 32)) for codes in wanted]
    assert np.array_equal(np.load(io.BytesIO(made.content)), back)


def test_decoded_clips_have_tags(serve):
    url = stub(serve).url + "/v1/decode"
    body = {"codes": CODES.tolist()}
    tag = httpx.post(url, json=body, headers=NPY).headers["etag"]
    again = httpx.post(url, json=body, headers={**NPY, "if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_short_clip_needs_no_stream(serve):
    engine = StubEngine(stub_facts(size=32, video=True))
    httpx.post(f"{stub(serve, engine).url}/v1/encode", **open_ended(LONG[:8]))
    assert engine.runs == [(Op.ENCODE, 1)]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "more", "said"),
    [
        (
            LONG[:30],
            b"",
            (413, "too_many_frames", "the picture has more than 25 frames"),
        ),
        (
            LONG[:20],
            b"abc",
            (
                400,
                "truncated",
                "the body ends within a frame: each takes 3,072 bytes, and the last one has 3",
            ),
        ),
        (LONG[:0], b"", (400, "empty", "the body is empty; a clip is sent in it")),
    ],
)
def test_bodies_of_any_length_that_are_wrong(serve, frames, more, said):
    sent = open_ended(frames)
    sent["content"] = iter([frames.tobytes(), more])
    assert told(httpx.post(f"{stub(serve, max_frames=25).url}/v1/encode", **sent)) == said


def test_bodies_that_are_not_as_long_as_they_say(serve):
    served = stub(serve)
    for frames, word, end in ((19, "truncated", "58,368"), (21, "wrong_shape", "more")):
        for content in (LONG[:frames].tobytes(), iter([LONG[:frames].tobytes()])):
            sent = raw(LONG[:20]) | {"content": content}
            _, *said = told(httpx.post(f"{served.url}/v1/encode", **sent))
            assert said == [word, f"the pixels take 61,440 bytes; the body has {end}"]


def test_more_frames_than_are_taken_are_refused_by_the_head(serve):
    refused = httpx.post(f"{stub(serve, max_frames=50).url}/v1/encode", **raw(LONG))
    assert told(refused)[:2] == (413, "too_many_frames")


def test_what_is_no_film_must_not_be_longer_than_a_body(serve):
    served = stub(serve, max_body=2_000)
    for body in (b"\x93NUMPY" + bytes(5_000), png(picture(1, (64, 64)))):
        for content in (body, iter([body])):
            refused = httpx.post(f"{served.url}/v1/encode", content=content)
            assert told(refused) == (
                413,
                "too_large",
                "the body is larger than 2,000 bytes, which this server takes at most",
            )


def test_a_film_has_a_limit_of_its_own(serve):
    film = movie(LONG)
    served = stub(serve, max_body=2_000, max_film=20_000)
    for content in (film, iter([film])):
        refused = httpx.post(f"{served.url}/v1/encode", content=content)
        assert told(refused) == (
            413,
            "too_large",
            "the body is larger than 20,000 bytes, which this server takes at most",
        )


def test_pictures_take_no_clips_of_any_length(serve):
    refused = httpx.post(f"{serve().url}/v1/encode", **open_ended(LONG))
    assert told(refused)[:2] == (400, "bad_header")


def test_an_answer_that_would_be_held_must_not_be_too_long(serve):
    served = stub(serve, max_body=20_000)
    body = {"codes": CODES.tolist()}
    assert told(httpx.post(f"{served.url}/v1/decode?format=json", json=body)) == (
        413,
        "too_large",
        "the answer would have more than 80,000 bytes of pixels; ask for one clip as npy, raw, "
        "safetensors or a film, which are sent as they are made",
    )


def test_no_more_streams_than_there_may_be(serve):
    """Others wait for one, as long as for an answer; who needs none does not."""
    engine = StubEngine(stub_facts(size=32, video=True))
    served = stub(serve, engine, streams=1, timeout=1.5)
    go_on = threading.Event()

    def slow():
        yield LONG[:60].tobytes()
        for frame in LONG[60:]:
            yield frame.tobytes()
            go_on.wait(0.2)

    def post(verb, **sent):
        return pool.submit(httpx.post, f"{served.url}/v1/{verb}", timeout=30, **sent)

    with ThreadPoolExecutor() as pool:
        first = post("encode", **open_ended(LONG, **NPY) | {"content": slow()})
        wait_for(lambda: served.desks["stub"].streams.open)
        late = [post("encode", **raw(LONG)), post("decode", json={"codes": CODES.tolist()})]
        others = [post("encode", **raw(LONG[n])) for n in range(4)]
        assert [one.result().status_code for one in others] == [200] * 4
        for one in late:
            assert told(one.result()) == (
                429,
                "busy",
                "all 1 streams, for clips longer than a slot, are taken; try again soon",
            )
            assert one.result().headers["retry-after"] == "1"
        waiting = post("encode", **raw(LONG, **NPY))
        go_on.set()
        for one in (first, waiting):
            assert np.array_equal(array(one.result()), CODES)


def test_a_film_takes_longer_than_the_time_of_one_request(serve):
    engine = StubEngine(stub_facts(size=32, video=True), per_batch=0.2)
    answer = httpx.post(f"{stub(serve, engine, timeout=1.0).url}/v1/encode", **raw(LONG, **NPY))
    assert np.array_equal(array(answer), CODES)


def test_a_chunk_that_is_late_ends_it(serve):
    engine = StubEngine(stub_facts(size=32, video=True), hang=(1, 2, 3), hang_seconds=1.5)
    served = stub(serve, engine, timeout=0.5)
    frames = LONG.copy()
    frames[48, 0, 0] = (1, 2, 3)
    refused = httpx.post(f"{served.url}/v1/encode", **raw(frames))
    assert told(refused) == (504, "deadline", "the answer was not there in time")
    wait_for(served.free)
    assert served.desks["stub"].streams.open == 0


def test_who_sends_too_slowly_gives_the_stream_back(serve):
    served = stub(serve, timeout=0.3)
    gap = threading.Event()

    def frames():
        yield LONG[:40].tobytes()
        gap.wait(3)
        yield LONG[40:].tobytes()

    refused = httpx.post(f"{served.url}/v1/encode", **open_ended(LONG) | {"content": frames()})
    assert told(refused) == (408, "body_stalled", "the body came too slowly, or not at all")
    assert served.desks["stub"].streams.open == 0


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_of_clients_that_leave_nothing_stays(serve, verb):
    engine = StubEngine(stub_facts(size=32, video=True), per_batch=0.05)
    served = stub(serve, engine)
    client = httpx.Client()
    if verb == "encode":

        def frames():
            yield LONG[:50].tobytes()
            wait_for(lambda: len(engine.runs) > 2)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            client.post(f"{served.url}/v1/encode", **open_ended(LONG) | {"content": frames()})
    else:
        body = {"codes": np.repeat(CODES, 20, 0).tolist()}
        with client.stream("POST", f"{served.url}/v1/decode?format=raw", json=body) as answer:
            next(answer.iter_raw())
    client.close()
    wait_for(lambda: not served.desks["stub"].streams.open and served.free())
    done = len(engine.runs)
    time.sleep(0.3)
    assert len(engine.runs) == done


def test_a_worker_that_ended_is_told_as_one_that_died():
    fault = fault_of(Severed(SEVERED))
    assert (fault.status, fault.code, fault.message) == (503, "worker_died", SEVERED)
    assert fault.headers == []


def test_an_answer_that_breaks_off_is_no_answer(serve):
    engine = StubEngine(stub_facts(size=32, video=True), poison=(1, 0, 1))
    codes = CODES.copy()
    codes[16] = 1
    body = {"codes": codes.tolist()}
    url = stub(serve, engine).url
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{url}/v1/decode?format=raw", json=body)
    codes[0] = 1
    refused = httpx.post(f"{url}/v1/decode?format=raw", json={"codes": codes.tolist()})
    assert told(refused)[:2] == (500, "internal")


def test_memory_does_not_grow_with_a_clip(serve):
    """What is held of a clip three times as long is no more, but for its codes."""
    served = stub(serve, max_frames=10_000)

    def frames(count):
        for _ in range(count):
            yield LONG[:20].tobytes()

    def peak(count):
        sent = open_ended(LONG, **NPY) | {"content": frames(count)}
        tracemalloc.start()
        try:
            codes = array(httpx.post(f"{served.url}/v1/encode", **sent, timeout=60))
            assert len(codes) == 5 * count
            tracemalloc.reset_peak()
            body = {"codes": codes.tolist()}
            got = 0
            with httpx.stream("POST", f"{served.url}/v1/decode?format=raw", json=body) as answer:
                for piece in answer.iter_raw():
                    got += len(piece)
            assert got == 20 * count * LONG[0].nbytes
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    first, second = peak(50), peak(150)
    assert second < first + 100 * 20 * LONG[0].nbytes / 2


def wait_for(is_so, seconds=10.0):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)

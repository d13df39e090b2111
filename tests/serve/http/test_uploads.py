"""Which files are clips to which tokenizer, and uploads that take longer than there is time."""

from __future__ import annotations

import io
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from serve_bodies import RAW, jpeg, told
from serve_stubs import StubEngine, codes_of, corners, picture, stub_facts

from vqtok.preprocess import prepare
from vqtok.serve.http import frames, laying
from vqtok.serve.wire.files import movie

FRAMES = [picture(seed, (32, 32)) for seed in range(8)]
MEDIA = {"GIF": "image/gif", "WEBP": "image/webp", "PNG": "image/png", "AVIF": "image/avif"}


def animation(kind="GIF", frames=FRAMES, **options):
    file = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(file, kind, save_all=True, append_images=rest, **options)
    return file.getvalue()


def post(url, data, media="image/gif", path="/v1/encode"):
    headers = {"content-type": media, "accept": RAW}
    return httpx.post(url + path, content=data, headers=headers, timeout=30)


def test_a_gif_is_a_picture_where_pictures_are_taken(serve):
    served = serve()
    answer = post(served.url, animation())
    pixels = prepare(animation(), served.desks["stub"].facts.preprocess).pixels
    assert answer.status_code == 200, answer.text
    assert np.array_equal(
        np.frombuffer(answer.content, "u2"), codes_of(corners(pixels, clip=False)).ravel()
    )


def test_clips_are_refused_where_pictures_are_taken(serve):
    url = serve().url
    pytest.importorskip("av")
    said = "the picture is a clip; stub takes pictures: send its frames as such"
    film = movie(np.stack(FRAMES), "video/mp4")
    assert told(post(url, film, "video/mp4")) == (415, "unsupported_media_type", said)
    text = '{"pictures": [{"frames": ["' + jpeg_text() + '"]}]}'
    refused = post(url, text.encode(), "application/json")
    assert told(refused) == (415, "unsupported_media_type", said)


def jpeg_text():
    import base64

    return base64.b64encode(jpeg(FRAMES[0])).decode()


@pytest.mark.parametrize("kind", MEDIA)
def test_all_frames_of_an_animation_are_taken(serve, kind):
    pytest.importorskip("av")
    url = serve(StubEngine(stub_facts(size=32, video=True)), max_frames=16).url
    answer = post(url, animation(kind), MEDIA[kind])
    assert (answer.status_code, answer.headers["x-vqtok-sizes"]) == (200, "8x32x32")
    one = post(url, animation(kind, FRAMES[:1]), MEDIA[kind])
    assert one.headers["x-vqtok-shape"] == "1,1,2,2"


def test_a_clip_that_takes_longer_than_there_is_time(serve, monkeypatch):
    pytest.importorskip("av")
    slow = frames.preprocess_frames
    seen = []

    def dawdling(*args, **options):
        for frame in slow(*args, **options):
            seen.append(1)
            time.sleep(0.2)
            yield frame

    monkeypatch.setattr(frames, "preprocess_frames", dawdling)
    engine = StubEngine(stub_facts(size=32, video=True))
    url = serve(engine, max_frames=16, timeout=0.5).url
    assert told(post(url, animation(duration=100))) == (
        504,
        "deadline",
        "the picture was not decoded in time",
    )
    assert len(seen) < 6


def test_who_waits_for_a_thread_is_told_when_it_is_too_late(serve, monkeypatch):
    go_on = threading.Event()
    prepared = laying.prepare

    def held(source, *args, **options):
        go_on.wait(10)
        return prepared(source, *args, **options)

    monkeypatch.setattr(laying, "prepare", held)
    served = serve(decoder_threads=1, timeout=0.5)
    first = threading.Thread(target=post, args=(served.url, jpeg(picture()), "image/jpeg"))
    first.start()
    time.sleep(0.2)
    late = post(served.url, jpeg(picture()), "image/jpeg")
    assert not go_on.is_set()
    assert told(late) == (504, "deadline", "no thread was free in time to decode it")
    go_on.set()
    first.join()


def test_a_clip_has_so_many_pixels_in_all(serve, monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setattr(frames, "FULL", 600)
    engine = StubEngine(stub_facts(size=32, video=True))
    url = serve(engine, max_frames=64).url
    long = animation("WEBP", [picture(seed, (32, 32)) for seed in range(40)], lossless=True)
    assert told(post(url, long, "image/webp")) == (
        413,
        "too_many_pixels",
        "the picture has 40 frames, 32 wide and 32 high; at most 38,400 pixels are taken of a clip",
    )


@pytest.fixture
def without_av(monkeypatch):
    """As where vqtok[video] is not installed."""
    monkeypatch.setitem(sys.modules, "av", None)


def test_a_gif_is_a_picture_without_pyav(serve, without_av):
    assert post(serve().url, animation()).status_code == 200


def test_heic_is_refused_without_pyav(serve, without_av):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
    said = "the picture is HEIC, which is not taken; send JPEG, PNG or WebP"
    for facts in (stub_facts(), stub_facts(size=32, video=True)):
        url = serve(StubEngine(facts)).url
        assert told(post(url, heic, "image/jpeg")) == (400, "not_a_picture", said)


@pytest.mark.parametrize("kind", ["video/mp4", "image/gif"])
def test_what_only_pyav_reads_is_refused_where_it_is_missing(serve, without_av, kind):
    url = serve(StubEngine(stub_facts(size=32, video=True))).url
    film = b"\0\0\0\x18ftypmp42" + bytes(50) if kind == "video/mp4" else animation()
    assert told(post(url, film, kind)) == (
        415,
        "unsupported_media_type",
        "this server lacks what it needs: the picture is read with av, which is not installed: "
        "pip install 'vqtok[video]'",
    )

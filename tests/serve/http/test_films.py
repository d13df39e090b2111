"""How many frames a second the films have that are answered."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from PIL import Image
from serve_bodies import raw, told
from serve_stubs import StubEngine, stub_facts

CLIP = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
CODES = {"codes": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}


@pytest.fixture
def url(serve):
    return serve(StubEngine(stub_facts(size=32, video=True)), max_frames=16).url


def gif_pause(answer):
    """Milliseconds that the first frame is shown."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif"), answer.text
    with Image.open(io.BytesIO(answer.content)) as film:
        return film.info["duration"]


@pytest.mark.parametrize(("query", "pause"), [("", 40), ("&fps=25", 40), ("&fps=12.5", 80)])
def test_a_film_has_the_rate_that_is_asked_for(url, query, pause):
    made = httpx.post(f"{url}/v1/reconstruct?format=gif{query}", **raw(CLIP))
    decoded = httpx.post(f"{url}/v1/decode?format=gif{query}", json=CODES)
    assert (gif_pause(made), gif_pause(decoded)) == (pause, pause)


@pytest.mark.parametrize("media", ["mp4", "webm"])
def test_so_has_a_video(url, media):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    answer = httpx.post(f"{url}/v1/decode?format={media}&fps=8", json=CODES)
    assert answer.status_code == 200, answer.text
    with av.open(io.BytesIO(answer.content)) as film:
        assert film.streams.video[0].average_rate == 8


def test_films_of_other_rates_are_kept_apart(url):
    asked = [("gif", ""), ("gif", "&fps=25.0"), ("gif", "&fps=10")] * 2
    answers = [
        httpx.post(f"{url}/v1/decode?format={media}{query}", json=CODES) for media, query in asked
    ]
    tags = [answer.headers["etag"] for answer in answers]
    assert tags[0] == tags[1] != tags[2] and tags[:3] == tags[3:]
    assert [gif_pause(answer) for answer in answers] == [40, 40, 100] * 2


@pytest.mark.parametrize("verb", ["decode", "reconstruct"])
@pytest.mark.parametrize("fps", ["0", "0.9", "240.5", "nan", "inf", "-5", "fast", ""])
def test_rates_that_cannot_be(url, verb, fps):
    sent = {"json": CODES} if verb == "decode" else raw(CLIP)
    refused = httpx.post(f"{url}/v1/{verb}?format=gif&fps={fps}", **sent)
    assert told(refused) == (
        400,
        "bad_request",
        f"fps is a number of frames a second, 1 to 240; got {fps!r}",
    )


@pytest.mark.parametrize("verb", ["decode", "reconstruct"])
def test_what_is_no_film_has_no_rate(url, verb):
    sent = {"json": CODES} if verb == "decode" else raw(CLIP)
    refused = httpx.post(f"{url}/v1/{verb}?format=npy&fps=25", **sent)
    assert told(refused) == (
        400,
        "bad_request",
        "fps is for films (video/mp4, video/webm, image/gif), and this is answered as "
        "application/x-npy; ask for one in Accept or format, or leave fps out",
    )

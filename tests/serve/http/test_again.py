"""What encode answers, posted to decode, comes back as reconstruct has it."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
import tiny
from PIL import Image
from serve_bodies import RAW
from serve_kinds import kind
from serve_server import serving

from vqtok.serve.engine import TokenizerEngine

NPY, SAFETENSORS = "application/x-npy", "application/safetensors"
SEVERAL = ("application/json", SAFETENSORS, NPY, RAW)
LIMITS = {"max_area": 4096, "max_frames": 16}


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(tiny.picture(16, 16)).save(file, "PNG")
    return file.getvalue()


def again(url: str, answer: httpx.Response) -> httpx.Response:
    """Posts an answer to decode, with the headers that say what it is."""
    said = {name: text for name, text in answer.headers.items() if name.startswith("x-vqtok")}
    headers = {**said, "content-type": answer.headers["content-type"], "accept": NPY}
    return httpx.post(url + "/v1/decode", content=answer.content, headers=headers)


def pixels_of(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    found: np.ndarray = np.load(io.BytesIO(answer.content))
    return found


@pytest.mark.parametrize("name", ["multiscale", "residual", "sequence", "causal clips", "clips"])
def test_a_picture_s_codes_and_latents_can_be_posted_again(name: str) -> None:
    engine = TokenizerEngine(kind(name), name="toy", tokenizer="toys/toy")
    with serving(engine, **LIMITS) as served:
        sent = {"content": png(), "headers": {"content-type": "image/png", "accept": NPY}}
        wanted = pixels_of(httpx.post(served.url + "/v1/reconstruct", **sent))
        assert wanted.ndim == 4
        for output in ("codes", "latents"):
            for media in SEVERAL:
                sent["headers"]["accept"] = media
                made = httpx.post(f"{served.url}/v1/encode?output={output}", **sent)
                assert np.array_equal(pixels_of(again(served.url, made)), wanted), (output, media)


def test_codes_that_do_not_tell_their_size() -> None:
    engine = TokenizerEngine(kind("cnn"), name="toy", tokenizer="toys/toy")
    file = io.BytesIO()
    np.save(file, np.zeros((4, 4), np.uint16))
    with serving(engine) as served:
        for media in (NPY, RAW, "application/json", SAFETENSORS, "image/png"):
            answer = httpx.post(
                served.url + "/v1/decode",
                content=file.getvalue(),
                headers={"content-type": NPY, "accept": media},
            )
            assert (answer.status_code, answer.headers["x-vqtok-sizes"]) == (200, "16x16")
            assert media != "application/json" or answer.json()["pictures"][0]["size"] == [16, 16]


@pytest.mark.parametrize("size", ["900x900", "3x5"])
def test_latents_of_another_size_than_they_stand_for(size: str) -> None:
    engine = TokenizerEngine(kind("cnn"), name="toy", tokenizer="toys/toy")
    with serving(engine) as served:
        answer = httpx.post(
            served.url + "/v1/decode",
            content=np.zeros((4, 4, 4), np.float32).tobytes(),
            headers={
                "content-type": RAW,
                "x-vqtok-shape": "4,4,4",
                "x-vqtok-dtype": "float32",
                "x-vqtok-sizes": size,
            },
        )
    shown = [int(side) for side in size.split("x")]
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        422,
        "a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and width; got the "
        f"size {shown}",
    )

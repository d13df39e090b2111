"""Pixels in answers, in every medium, there and back."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from wire_bodies import (
    JPEG,
    JSON,
    LIMITS,
    NPY,
    PNG,
    PRINT,
    RAW,
    SAFETENSORS,
    WEBP,
    noise,
)

from vqtok.serve.wire import (
    Failure,
    Head,
    Row,
    WireError,
    offered_pictures,
    read_pictures,
    read_pixels,
    write_pictures,
)

HEAD = Head(PRINT, PRINT.codebook, 16)
LOSSLESS = (PNG, WEBP, JSON, SAFETENSORS, NPY, RAW)
FAILED = Failure(400, "not_a_picture", "it is none")


@given(
    st.integers(1, 3),
    st.sampled_from([(2, 3, 3), (1, 1, 3), (16, 8, 3), (2, 4, 4, 3), (1, 5, 2, 3)]),
    st.sampled_from(LOSSLESS),
)
def test_pixels_come_back(count: int, shape: tuple[int, ...], media: str) -> None:
    if media.startswith("image/"):
        count, shape = 1, shape[-3:]
    pictures = [noise(*shape, seed=seed) for seed in range(count)]
    rows = [Row({"pixels": one}, one.shape[:-1]) for one in pictures]
    body, headers = write_pictures(rows, HEAD, media)
    assert headers["content-type"] == media
    assert headers["x-vqtok-shape"] == ",".join(map(str, (count, *shape)))
    back = read_pixels(headers, body)
    assert all(isinstance(one, Row) for one in back)
    assert np.array_equal([one.parts["pixels"] for one in back], pictures)  # type: ignore[union-attr]


@pytest.mark.parametrize("media", [JSON, SAFETENSORS])
def test_pictures_of_several_sizes_come_back(media: str) -> None:
    shapes = [(2, 3, 3), (4, 1, 3), (2, 4, 4, 3)]
    rows: list[Row | Failure] = [
        Row({"pixels": noise(*shape)}, shape[:-1]) for shape in shapes if len(shape) == 3
    ]
    rows.insert(1, FAILED)
    body, headers = write_pictures(rows, HEAD, media)
    first, second, third = read_pixels(headers, body)
    assert second == FAILED
    assert isinstance(first, Row) and isinstance(third, Row)
    assert np.array_equal(first.parts["pixels"], noise(2, 3, 3))
    assert np.array_equal(third.parts["pixels"], noise(4, 1, 3))
    assert headers["x-vqtok-status"] == "200,400,200"


def test_jpeg_is_near() -> None:
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)[..., None].repeat(3, -1)
    body, headers = write_pictures([Row({"pixels": smooth})], HEAD, JPEG)
    (back,) = read_pixels(headers, body)
    assert isinstance(back, Row)
    assert np.abs(back.parts["pixels"].astype(int) - smooth).max() < 8


@pytest.mark.parametrize("media", ["video/mp4", "video/webm", "image/gif"])
def test_clips_can_be_films(media: str) -> None:
    pytest.importorskip("av")
    from vqtok.streams import open_clip

    clip = np.full((3, 16, 16, 3), 100, np.uint8)
    body, headers = write_pictures([Row({"pixels": clip})], HEAD, media)
    (upload,) = read_pictures(headers, body, LIMITS, video=True)
    assert upload.clip
    frames = list(open_clip(upload.data))
    assert len(frames) == 3
    assert np.abs(np.stack(frames).astype(int) - 100).max() < 8


def test_json_of_pictures_holds_png_files() -> None:
    rows = [Row({"pixels": noise(2, 3, 3), "codes": np.array([[7]], np.uint16)}, (2, 3)), FAILED]
    body, _ = write_pictures(rows, HEAD, JSON)
    first, second = json.loads(body)["pictures"]
    assert np.array_equal(
        Image.open(io.BytesIO(base64.b64decode(first.pop("image")))), noise(2, 3, 3)
    )
    assert first == {"status": 200, "grid": [1, 1], "size": [2, 3], "codes": [[7]]}
    assert second == {"status": 400, "error": FAILED._asdict()}
    uploads = read_pictures({"content-type": JSON}, body, LIMITS)
    assert isinstance(uploads[0].data, bytes)
    assert uploads[1].data == Failure(
        400, "missing_part", "picture 1: there is nothing of it but an error: 'it is none'"
    )


@pytest.mark.parametrize(
    ("rows", "media", "message"),
    [
        (
            [noise(2, 3, 3)] * 2,
            PNG,
            "image/png holds one picture, and these are 2; ask for application/json, "
            "application/safetensors, application/x-npy, application/octet-stream",
        ),
        (
            [noise(2, 2, 3, 3)],
            PNG,
            "image/png holds one picture, and this is a clip of 2 frames; ask for "
            "application/json, application/safetensors, application/x-npy, "
            "application/octet-stream, video/mp4, video/webm, image/gif",
        ),
        (
            [noise(1, 17000, 3)],
            WEBP,
            "image/webp cannot hold a picture 17000 wide and 1 high: encoding error 5: Image size "
            "exceeds WebP limit of 16383 pixels",
        ),
        (
            [noise(2, 3, 3), noise(3, 3, 3)],
            NPY,
            "application/x-npy is one array, and these pixels have 2 shapes; ask for "
            "application/safetensors or application/json",
        ),
    ],
    ids=range(4),
)
def test_media_that_cannot_hold_it(rows: list[Any], media: str, message: str) -> None:
    with pytest.raises(WireError) as error:
        write_pictures([Row({"pixels": one}) for one in rows], HEAD, media)
    assert (error.value.code, str(error.value)) == ("not_acceptable", message)


def test_what_is_offered() -> None:
    assert offered_pictures(1, video=False)[0] == PNG
    assert offered_pictures(2, video=False) == (JSON, SAFETENSORS, NPY, RAW)
    assert offered_pictures(1, video=True)[0] == NPY
    assert offered_pictures(2, video=True)[0] == JSON

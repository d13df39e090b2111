"""A server's model as a codec, and as a tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from serve_stubs import FRAMES, codes_of, corners, picture, pixels_of, stub_facts

from vqtok import batches
from vqtok.errors import ImageError, InputError
from vqtok.serve import Client
from vqtok.types import ClipCodec, Codec, Codes


@pytest.fixture
def client(server: Any) -> Any:
    with Client(server.url) as found:
        yield found


@pytest.fixture
def clips(serve: Any) -> Any:
    with serve(stub_facts(size=32, video=True)) as server, Client(server.url) as found:
        yield found


def test_a_codec_of_pictures(client: Client) -> None:
    codec = client.codec()
    assert isinstance(codec, Codec) and not isinstance(codec, ClipCodec)
    facts = client.model()
    assert (codec.fingerprint, codec.precision) == (facts.fingerprint, facts.precision)
    pixels = np.stack([picture(seed, (32, 32)) for seed in range(3)])
    codes = codec.encode(pixels)
    expected = np.stack([codes_of(corners(one, False)) for one in pixels])
    sizes = np.array([[32, 32]] * 3, np.int32)
    assert codes == Codes(expected, sizes, 4096, facts.fingerprint.codebook)
    assert np.array_equal(codec.decode(codes), np.stack([pixels_of(one) for one in expected]))


def test_a_codec_decodes_all_pixels(serve: Any) -> None:
    with serve(stub_facts(size=None)) as server, Client(server.url) as client:
        codes = Codes(np.ones((1, 2, 3), np.int64), np.array([[20, 40]], np.int32), 4096)
        assert client.codec().decode(codes).shape == (1, 32, 48, 3)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((32, 32, 3), np.uint8),
            "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got uint8 (32, 32, 3)",
        ),
        (
            np.zeros((0, 32, 32, 3), np.uint8),
            "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got uint8 "
            "(0, 32, 32, 3)",
        ),
        (
            np.zeros((1, 32, 32, 3), np.float32),
            "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got float32 "
            "(1, 32, 32, 3)",
        ),
    ],
)
def test_pixels_that_are_none(client: Client, pixels: Any, message: str) -> None:
    with pytest.raises(ImageError) as error:
        client.codec().encode(pixels)
    assert str(error.value) == message


def test_pixels_that_the_server_would_change(client: Client, server: Any) -> None:
    with pytest.raises(InputError) as error:
        client.codec().encode(np.zeros((1, 48, 64, 3), np.uint8))
    assert str(error.value) == (
        "the server's preprocessing makes 32 x 32 pixels of 64 x 48, so these are not preprocessed "
        "as it does it; see `client.model().preprocess`"
    )
    assert server.posts == []


def test_a_codec_of_clips(clips: Client) -> None:
    codec = clips.codec()
    assert isinstance(codec, ClipCodec)
    assert codec.plan_frames(5).tokens == 2
    pixels = picture(1, (2, 2 * FRAMES, 32, 32))
    codes = codec.encode(pixels)
    assert np.array_equal(codes.ids, np.stack([codes_of(corners(one, True)) for one in pixels]))
    assert np.array_equal(codec.decode(codes), np.stack([pixels_of(one) for one in codes.ids]))


def test_frames_through_a_codec(clips: Client) -> None:
    codec: Any = clips.codec()
    frames = picture(1, (2 * FRAMES, 32, 32))
    codes = codec.encode_frames(iter(frames), (30, 28))
    assert codes.sizes.tolist() == [[2 * FRAMES, 30, 28]]
    found = list(codec.decode_frames(codes))
    expected = pixels_of(codes_of(corners(frames, True)))[:, :30, :28]
    assert np.array_equal(np.stack(found), expected)
    with pytest.raises(ImageError) as error:
        codec.encode_frames([], (32, 32))
    assert str(error.value) == "a clip has at least one frame; got none"


def test_a_tokenizer_over_a_server(client: Client) -> None:
    tok = client.tokenizer()
    source = picture(1, (50, 40))
    (grid,) = tok.encode_codes(source)
    assert torch.equal(grid, torch.from_numpy(client.encode(source).ids[0].astype(np.int64)))
    back = tok.decode(tok.encode(source))
    assert np.array_equal(np.asarray(back), pixels_of(grid.numpy()))
    assert (tok.codebook_size, tok.fingerprint) == (4096, client.model().fingerprint)


def test_a_tokenizer_of_clips_over_a_server(clips: Client) -> None:
    tok = clips.tokenizer()
    assert tok.is_video
    frames = picture(1, (FRAMES + 1, 32, 32))
    codes = tok.encode_clip(list(frames))
    assert codes.sizes.tolist() == [[FRAMES + 1, 32, 32]]
    assert len(list(tok.decode_clip(codes))) == FRAMES + 1


def test_many_pixels_through_the_batches_of_the_library(client: Client) -> None:
    pixels = [picture(seed, (32, 32)) for seed in range(5)]
    found = batches.encode_pixels(client.codec(), pixels, 2)
    assert found == [client.encode(one) for one in pixels]

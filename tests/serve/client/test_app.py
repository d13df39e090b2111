"""Both clients against the real app, over the engine that needs no model."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serve_server import Served, serving
from serve_stubs import (
    FRAMES,
    StubEngine,
    codes_of,
    corners,
    latents_of,
    picture,
    pixels_of,
    stub_facts,
)

from vqtok.errors import CodesError, ImageError, InputError, MismatchError, ServiceError
from vqtok.preprocess import prepare
from vqtok.types import Codes

FACTS = stub_facts(size=32)
REFUSED = (9, 9, 9)
POISON = (8, 8, 8)


@pytest.fixture(scope="module")
def app() -> Iterator[Served]:
    engines = {
        "stub": StubEngine(FACTS, refused=REFUSED, poison=POISON),
        "clips": StubEngine(stub_facts("clips", size=32, video=True)),
        "native": StubEngine(stub_facts("native", size=None)),
    }
    with serving(engines, api_key="secret", max_images=8, max_area=128 * 128) as served:
        yield served


@pytest.fixture
def client(app: Served, connect: Any) -> Iterator[Any]:
    yield connect(app.url, api_key="secret", per_request=8)
    assert app.free()


def jpeg(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def ids_of(source: Any, facts: Any = FACTS) -> Any:
    return codes_of(corners(prepare(source, facts.preprocess).pixels, False))


def test_there_and_back(client: Any) -> None:
    client.wait_until_ready(10)
    assert client.model() == FACTS
    sources = [picture(seed, (40, 50)) for seed in range(20)]
    sources += [jpeg(one) for one in sources]
    sources += [picture(1, (64, 32)), picture(2, (32, 64))]
    codes = client.encode(sources)
    assert all(np.array_equal(one.ids[0], ids_of(s)) for one, s in zip(codes, sources, strict=True))
    assert {one.codebook for one in codes} == {FACTS.fingerprint.codebook}
    pictures = client.decode(codes, output_type="np")
    shown = [pixels_of(one.ids[0]) for one in codes]
    assert all(map(np.array_equal, pictures, shown))
    again = client.reconstruct(sources[18:22], output_type="np")
    assert all(map(np.array_equal, again, shown[18:22]))
    latents = client.latents(sources[:3])
    expected = [
        latents_of(corners(prepare(s, FACTS.preprocess).pixels, False)) for s in sources[:3]
    ]
    assert all(map(np.array_equal, (one.values for one in latents), expected))
    assert all(map(np.array_equal, client.decode(latents, output_type="np"), shown[:3]))


def test_pictures_that_keep_their_size(app: Served, connect: Any) -> None:
    client = connect(app.url, api_key="secret", model="native")
    sources = [picture(1, (40, 70)), jpeg(picture(2, (16, 32))), picture(3, (64, 64))]
    codes = client.encode(sources)
    facts = stub_facts("native", size=None)
    assert all(
        np.array_equal(one.ids[0], ids_of(s, facts)) for one, s in zip(codes, sources, strict=True)
    )
    found = client.decode(codes, output_type="np")
    assert [one.shape for one in found] == [(32, 64, 3), (16, 32, 3), (64, 64, 3)]
    found = client.reconstruct(sources, output_type="np")
    assert [one.shape for one in found] == [(32, 64, 3), (16, 32, 3), (64, 64, 3)]
    latents = client.latents(sources)
    assert [one.values.shape for one in latents] == [(2, 2, 4), (2, 1, 2), (2, 4, 4)]
    back = client.decode(latents, output_type="np")
    assert all(map(np.array_equal, back, found))


def test_clips(app: Served, connect: Any) -> None:
    client = connect(app.url, api_key="secret", model="clips")
    clips = [picture(seed, (frames, 32, 32)) for seed, frames in enumerate((FRAMES, 2 * FRAMES))]
    codes = client.encode(clips)
    for one, clip in zip(codes, clips, strict=True):
        assert np.array_equal(one.ids[0], codes_of(corners(clip, True)))
        assert one.sizes.tolist() == [[len(clip), 32, 32]]
    found = client.decode(codes, output_type="np")
    assert all(
        np.array_equal(f, pixels_of(one.ids[0])) for f, one in zip(found, codes, strict=True)
    )
    assert np.array_equal(client.reconstruct(clips[1], output_type="np"), found[1])
    odd = picture(3, (FRAMES + 1, 32, 32))
    assert client.decode(client.latents(odd), output_type="np").shape == odd.shape
    still = client.encode(clips[0][0])
    assert still.sizes.tolist() == [[1, 32, 32]]


def test_what_fails_is_named(client: Any) -> None:
    good, refused, poison = (picture(1, (32, 32), one) for one in ((1, 1, 1), REFUSED, POISON))
    sources = [good, refused, jpeg(good)[:400], b"\xff\xd8\xffnothing", good, poison]
    found = client.encode(sources, on_error="return")
    kinds = [Codes, ImageError, ImageError, ImageError, Codes, ServiceError]
    assert [type(one) for one in found] == kinds
    named = [str(found[index]).startswith(f"picture {index}") for index in (1, 2, 3, 5)]
    assert named == [True] * 4
    with pytest.raises(ImageError, match=r"^the picture is broken or cut short: "):
        client.encode(sources[2])


def test_codes_that_cannot_be_decoded(client: Any) -> None:
    sizes = np.zeros((1, 2), np.int32)
    other = Codes(np.ones((1, 2, 2), np.int64), sizes, 4096, "a" * 64)
    with pytest.raises(MismatchError) as error:
        client.decode(other)
    assert str(error.value) == (
        f"these codes were made with the codebook {'a' * 64} and cannot be decoded by a tokenizer "
        f"whose codebook is {FACTS.fingerprint.codebook}"
    )
    flat = Codes(np.ones((1, 4), np.int64), sizes, 4096)
    with pytest.raises(CodesError) as shape:
        client.decode([np.ones((2, 2), np.int64), flat])
    assert str(shape.value) == "picture 1: codes have 2 axes here; got the shape (4,)"


def test_a_key_that_is_another(app: Served, connect: Any) -> None:
    with pytest.raises(ServiceError) as error:
        connect(app.url, api_key="wrong").encode(picture())
    assert (error.value.status, error.value.code) == (401, "unauthorized")
    connect(app.url, api_key="wrong").wait_until_ready(5)
    connect(app.url, api_key="secret\n").model()


def test_a_codec_over_the_app(app: Served) -> None:
    from vqtok.serve import Client

    with Client(app.url, api_key="secret") as client:
        pixels = np.stack([picture(seed, (32, 32)) for seed in range(3)])
        codec = client.codec()
        assert np.array_equal(codec.decode(codec.encode(pixels))[1], pixels_of(ids_of(pixels[1])))
        with pytest.raises(InputError):
            codec.encode(pixels[:, :16])
    with Client(app.url, api_key="secret", model="clips") as client:
        clip = picture(1, (FRAMES + 1, 32, 32))
        tok = client.tokenizer()
        codes = tok.encode_clip(list(clip))
        assert len(list(tok.decode_clip(codes))) == FRAMES + 1

"""What is known of a tokenizer where there is no model."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
from serve_kinds import CLIPS, KINDS, alone, kind, shown

import vqtok
from vqtok.errors import CodesError, ConfigError, ImageError, InputError, LoadError, MismatchError
from vqtok.preprocess import Preprocess
from vqtok.serve.describe import describe
from vqtok.serve.facts import Facts
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

every = pytest.mark.parametrize("name", KINDS)


def facts_of(name: str) -> Facts:
    return describe(kind(name), name.replace(" ", "-"), "toys/" + name)


def test_no_torch_is_needed() -> None:
    code = (
        "import sys, vqtok.serve.facts, vqtok.serve.engine, vqtok.serve.load\n"
        "print(*{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


@every
def test_it_travels(name: str) -> None:
    facts = facts_of(name)
    assert pickle.loads(pickle.dumps(facts)) == facts
    stored = json.loads(json.dumps(facts.to_dict()))
    assert Facts.from_dict(stored) == facts
    assert Facts.from_dict(stored | {"of a later version": 1}) == facts


def test_what_is_said() -> None:
    tok = kind("multiscale")
    assert describe(tok, "fine", "toys/fine", check="exact").to_dict() == {
        "name": "fine",
        "tokenizer": "toys/fine",
        "version": vqtok.__version__,
        "fingerprint": tok.fingerprint.to_dict(),
        "precision": "ieee32",
        "preprocess": tok.settings.model_dump(mode="json"),
        "codebook_size": 64,
        "depth": 0,
        "axes": 1,
        "stride": [4, 4],
        "only_size": None,
        "grid": [21],
        "latent_grid": [4, 4],
        "latent_channels": 4,
        "scale_sides": [1, 2, 4],
        "causal": False,
        "window": None,
        "check": "exact",
        "is_video": False,
        "is_multiscale": True,
        "dtype": "uint16",
    }


def test_what_describes_no_tokenizer() -> None:
    stored = facts_of("cnn").to_dict()
    stored.pop("stride")
    with pytest.raises(LoadError) as error:
        Facts.from_dict(stored)
    assert str(error.value) == "this does not describe a tokenizer: 'stride' is missing"
    with pytest.raises(LoadError) as other:
        Facts.from_dict({**facts_of("cnn").to_dict(), "stride": 4})
    assert str(other.value) == ("these are no traits of a model: 'int' object is not iterable")


# --- sizes and grids ------------------------------------------------------------------------------


@every
def test_sizes_are_those_of_the_model(name: str) -> None:
    tok, facts = kind(name), facts_of(name)
    side = facts.preprocess.size or 8 * facts.preprocess.stride
    frames = (tok.plan_frames(6).padded,) if tok.is_video else ()
    for shape in ((side, side), (side, 2 * side)):
        size = (*frames, *shape)
        if facts.traits.only_size not in (None, shape):
            continue
        latents = tok.model.grid_of(size)
        codes = tok.model.quantize.codes_shape(latents)
        assert facts.traits.latent_grid_of(size) == latents
        assert facts.traits.grid_of(size) == (codes[:-1] if facts.traits.depth else codes)
        assert facts.traits.size_of(latents) == tok.model.size_of(latents) == size
        assert facts.traits.scales_of(latents) == tok.model.quantize.scales_of(latents)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_frames_are_planned_as_the_model_does(name: str, count: int) -> None:
    assert facts_of(name).traits.plan_frames(count) == kind(name).plan_frames(count)


def test_the_grid_of_one_size() -> None:
    grids = {name: (facts_of(name).grid, facts_of(name).latent_grid) for name in KINDS}
    assert grids == {
        "cnn": ((4, 4), (4, 4)),
        "native": (None, None),
        "extend": (None, None),
        "multiscale": ((21,), (4, 4)),
        "residual": ((4, 4), (4, 4)),
        "lfq": ((4, 4), (4, 4)),
        "sequence": ((64,), (64,)),
        "causal clips": (None, None),
        "clips": ((1, 8, 8), (1, 8, 8)),
        "windows of clips": (None, None),
    }


def test_sizes_that_fit_no_grid() -> None:
    for name, size, message in (
        ("cnn", (16, 18), "the sides of a picture are multiples of 4 x 4; got 16 x 18"),
        ("sequence", (32, 16), "the sides of a picture are 32 x 32; got 32 x 16"),
        (
            "clips",
            (3, 16, 16),
            "the sides of a clip are multiples of 2 x 2 x 2; got 3 x 16 x 16",
        ),
    ):
        with pytest.raises(ImageError) as error:
            facts_of(name).traits.grid_of(size)
        assert str(error.value) == message
    with pytest.raises(InputError) as frames:
        facts_of("cnn").traits.plan_frames(2)
    assert str(frames.value) == "this tokenizer takes pictures, which have no frames to plan"


# --- codes ----------------------------------------------------------------------------------------


@every
def test_its_own_codes_are_taken(name: str) -> None:
    tok, facts = kind(name), facts_of(name)
    pixels = shown(tok)
    _, made, _ = alone(tok, pixels)
    codes = facts.codes(
        made.ids[0].astype(facts.traits.dtype), pixels.shape[:-1], codebook=made.codebook
    )
    facts.check_codes(made)
    tok.codec.check(codes)
    assert codes == replace(made, sizes=codes.sizes)
    assert codes.sizes.tolist() == [list(pixels.shape[:-1])]
    frames = tok.plan_frames(len(pixels)).padded if tok.is_video else 0
    whole = (frames, *pixels.shape[1:-1]) if frames else pixels.shape[:-1]
    assert facts.decoded_size(codes) == whole
    assert not facts.codes(made.ids[0]).sizes.any() or facts.traits.only_size


def test_a_grid_is_a_clip_of_one_frame() -> None:
    codes = facts_of("clips").codes(np.zeros((8, 8), int))
    assert codes.ids.shape == (1, 1, 8, 8)
    assert codes.sizes.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("name", CLIPS)
def test_height_and_width_of_a_clip_s_codes_are_a_picture_s(name: str) -> None:
    facts = facts_of(name)
    frames = facts.traits.frames
    size = facts.traits.size_of(facts.traits.grid_of((frames, 16, 16)))
    ids = np.zeros(facts.traits.grid_of(size), int)
    codes = facts.codes(ids, (15, 16))
    assert codes.sizes.tolist() == [[15, 16]]
    assert facts.codes(ids, (1, 15, 16)).sizes.tolist() == [[1, 15, 16]]
    facts.check_codes(replace(codes, sizes=np.zeros((1, 2), np.int32)))
    with pytest.raises(CodesError) as error:
        facts.codes(ids, (17, 16))
    assert str(error.value).endswith("frames, height and width; got the size [1, 17, 16]")


def test_vectors_stand_for_so_many_pixels() -> None:
    facts = facts_of("cnn")
    for size in ((16, 16), (13, 16), (0, 0), (0, 14), ()):
        facts.check_size((4, 4), size)
    for size in ((900, 900), (3, 5), (16, 12)):
        with pytest.raises(CodesError) as error:
            facts.check_size((4, 4), size)
        assert str(error.value) == (
            "a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and width; got "
            f"the size {list(size)}"
        )
    facts_of("sequence").check_size((64,), (32, 32))
    facts_of("multiscale").check_size((4, 4), (16, 16))
    facts_of("clips").check_size((1, 8, 8), (16, 16))
    with pytest.raises(CodesError):
        facts_of("clips").check_size((2, 8, 8), (16, 16))


def test_codes_as_narrow_as_they_can_be() -> None:
    assert facts_of("cnn").traits.dtype == np.uint16
    assert facts_of("lfq").traits.dtype == np.uint32
    edge = replace(facts_of("cnn").traits, codebook_size=1 << 16)
    assert edge.dtype == np.uint16
    assert replace(edge, codebook_size=(1 << 16) + 1).dtype == np.uint32


def test_more_codes_than_there_is_room_for() -> None:
    bits = {"num_vq_embeddings": 1 << 36, "vq_embed_dim": 36}
    tok = tiny.tokenizer(quantizer="lfq", quantizer_args={}, **bits)
    with pytest.raises(ConfigError) as error:
        describe(tok, "wide", "toys/wide")
    assert str(error.value) == (
        "ids are kept as numbers of 32 bits, which name 4,294,967,296 codes; this codebook has "
        "68,719,476,736"
    )


@pytest.mark.parametrize(
    ("name", "ids", "message"),
    [
        (
            "cnn",
            np.full((4, 4), 64),
            "codes of this tokenizer lie in [0, 64); got some from 64 to 64",
        ),
        (
            "cnn",
            np.zeros(16, int),
            "the codes of a picture have the shape (h, w) here, with at least one token; got (16,)",
        ),
        (
            "cnn",
            np.zeros((0, 4), int),
            "the codes of a picture have the shape (h, w) here, with at least one token; got "
            "(0, 4)",
        ),
        (
            "residual",
            np.zeros((4, 4, 2), int),
            "the codes of a picture have the shape (h, w, 3) here, with at least one token; got "
            "(4, 4, 2)",
        ),
        (
            "clips",
            np.zeros(4, int),
            "the codes of a clip have the shape (t, h, w) here, with at least one token; got (4,)",
        ),
        (
            "sequence",
            np.zeros((8, 8), int),
            "the codes of a picture have the shape (L,) here, with at least one token; got (8, 8)",
        ),
        ("sequence", np.zeros(63, int), "a picture has 64 codes here; got 63"),
        ("multiscale", np.zeros(20, int), "the scales 1x1 2x2 4x4 hold 21 codes; got codes of the "
         "shape (1, 20)"),
        ("cnn", np.zeros((4, 4)), "codes are whole numbers; got an array of float64"),
    ],
)  # fmt: skip
def test_what_are_no_codes(name: str, ids: np.ndarray, message: str) -> None:
    with pytest.raises(CodesError) as error:
        facts_of(name).codes(ids)
    assert str(error.value) == message


def test_codes_of_others() -> None:
    facts = facts_of("multiscale")
    with pytest.raises(MismatchError) as codebook:
        facts.codes(np.zeros(21, int), codebook="0" * 64)
    assert str(codebook.value) == (
        "these codes were made with the codebook 0000000000000000 and cannot be decoded by a "
        f"tokenizer whose codebook is {facts.fingerprint.codebook[:16]}"
    )
    with pytest.raises(MismatchError) as scales:
        facts.codes(np.zeros(5, int), scales=((1, 1), (2, 2)))
    assert str(scales.value) == (
        "these codes have the scales 1x1 2x2; this tokenizer cuts a grid of 2x2 into 1x1 1x1 2x2"
    )
    with pytest.raises(CodesError) as size:
        facts_of("cnn").codes(np.zeros((4, 4), int), (16, 12))
    assert str(size.value) == (
        "a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and width; got the "
        "size [16, 12]"
    )


def test_scales_of_many_sizes_are_told() -> None:
    model = tiny.model(quantizer="multiscale", quantizer_args={"scales": (1, 2, 4)})
    tok = VisualTokenizer.from_model(model, Preprocess(policy="native", stride=4))
    facts = describe(tok, "m", "m")
    with pytest.raises(CodesError) as error:
        facts.codes(np.zeros(21, int))
    assert str(error.value) == (
        "codes of several scales do not tell their grid, and pictures of this tokenizer have "
        "several sizes; pass the scales"
    )
    codes = facts.codes(np.zeros(21, int), scales=((1, 1), (2, 2), (4, 4)))
    assert facts.decoded_size(codes) == (16, 16)


def test_codes_of_one_picture_alone_are_taken() -> None:
    with pytest.raises(MismatchError) as error:
        facts_of("cnn").check_codes(Codes(np.zeros((1, 4, 4), int), np.zeros((1, 2), int), 32))
    assert str(error.value) == (
        "these codes have codebook_size=32 and depth=0; this tokenizer decodes codebook_size=64 "
        "and depth=0"
    )

    with pytest.raises(CodesError) as axes:
        facts_of("cnn").check_codes(Codes(np.zeros((1, 16), int), np.zeros((1, 2), int), 64))
    assert str(axes.value) == (
        "the codes of a picture have the shape (h, w) here, with at least one token; got (16,)"
    )

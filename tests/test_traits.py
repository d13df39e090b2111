"""What is known of a model where there is none."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serve_kinds import CLIPS, KINDS, alone, kind, shown

from vqtok.errors import CodesError, ImageError, InputError, LoadError, MismatchError
from vqtok.traits import Traits, check_codes, check_sizes
from vqtok.types import Codes, Fingerprint

FOURS = Traits(codebook_size=4, depth=0, axes=2, stride=(4, 4))
NOBODY = Fingerprint(*("0" * 64,) * 4)
every = pytest.mark.parametrize("name", KINDS)


def test_no_torch_is_needed() -> None:
    code = (
        "import sys, vqtok.traits, vqtok.verdicts\n"
        "print(*{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


@every
def test_they_are_the_model_s(name: str) -> None:
    tok = kind(name)
    model, traits = tok.model, tok.codec.traits
    assert traits == Traits.of(model)
    assert (traits.codebook_size, traits.depth) == (tok.codebook_size, tok.vocab.depth)
    assert (traits.axes, traits.latent_channels) == (model.code_axes, model.quantize.dim)
    assert (traits.is_video, traits.is_multiscale) == (model.is_video, model.is_multiscale)
    size = model.probe_size()
    latents = model.grid_of(size)
    codes = model.quantize.codes_shape(latents)
    assert traits.latent_grid_of(size) == latents
    assert traits.grid_of(size) == (codes[:-1] if traits.depth else codes)
    assert traits.size_of(latents) == model.size_of(latents) == size
    assert traits.scales_of(latents) == model.quantize.scales_of(latents)


@every
def test_they_travel(name: str) -> None:
    traits = kind(name).codec.traits
    assert pickle.loads(pickle.dumps(traits)) == traits
    assert Traits.from_dict(json.loads(json.dumps(traits.to_dict()))) == traits


def test_what_is_written() -> None:
    assert kind("sequence").codec.traits.to_dict() == {
        "codebook_size": 64,
        "depth": 0,
        "axes": 1,
        "stride": [32, 32],
        "only_size": [32, 32],
        "only_grid": [64],
        "latent_channels": 4,
        "scale_sides": [],
        "causal": False,
        "window": None,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": None}, "'stride' is missing"),
        ({"colour": 1}, "'colour' is not known"),
        ({"stride": 4}, "'int' object is not iterable"),
    ],
)
def test_what_are_no_traits(change: dict[str, Any], message: str) -> None:
    stored = {**FOURS.to_dict(), **change}
    if change.get("stride", ()) is None:
        stored.pop("stride")
    with pytest.raises(LoadError) as error:
        Traits.from_dict(stored)
    assert str(error.value) == f"these are no traits of a model: {message}"


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_frames_are_planned_as_the_model_does(name: str, count: int) -> None:
    tok = kind(name)
    assert tok.codec.traits.plan_frames(count) == tok.model.plan_frames(count)
    assert tok.codec.traits.frames == tok.model.plan_frames(1).padded


def test_pictures_have_no_frames() -> None:
    assert FOURS.frames == 1
    with pytest.raises(InputError) as error:
        FOURS.plan_frames(2)
    assert str(error.value) == "this tokenizer takes pictures, which have no frames to plan"


def test_sizes_that_fit_no_grid() -> None:
    for name, size, message in (
        ("cnn", (16, 18), "the sides of a picture are multiples of 4 x 4; got 16 x 18"),
        ("sequence", (32, 16), "the sides of a picture are 32 x 32; got 32 x 16"),
        ("clips", (3, 16, 16), "the sides of a clip are multiples of 2 x 2 x 2; got 3 x 16 x 16"),
    ):
        with pytest.raises(ImageError) as error:
            kind(name).codec.traits.grid_of(size)
        assert str(error.value) == message
    with pytest.raises(CodesError) as grid:
        kind("sequence").codec.traits.size_of((63,))
    assert str(grid.value) == "a picture has 64 codes here; got 63"


def test_scales_are_of_a_grid() -> None:
    traits = kind("multiscale").codec.traits
    assert traits.scales_of((4, 8)) == ((1, 2), (2, 4), (4, 8))
    with pytest.raises(InputError) as error:
        traits.scales_of((21,))
    assert str(error.value) == "codes of several scales have a grid (h, w); got (21,)"


@every
def test_its_own_codes_are_taken(name: str) -> None:
    tok = kind(name)
    _, codes, _ = alone(tok, shown(tok))
    check_codes(codes, tok.fingerprint, tok.codec.traits)
    tok.codec.traits.check_shape(codes.ids.shape[1:])


def test_codes_stand_for_what_their_grid_does() -> None:
    for size in ((8, 12), (5, 9), (0, 0), (0, 12)):
        check_sizes(Codes(np.zeros((1, 2, 3), int), np.array([size]), 4), FOURS)
    for size in ((4, 12), (8, 13), (9, 0)):
        with pytest.raises(CodesError) as error:
            check_sizes(Codes(np.zeros((1, 2, 3), int), np.array([size]), 4), FOURS)
        assert str(error.value) == (
            "a grid of 2 x 3 codes stands for 5 x 9 to 8 x 12 pixels, height and width; got the "
            f"size {list(size)}"
        )


def test_codes_of_others() -> None:
    codes = Codes(np.zeros((1, 2, 3), int), np.zeros((1, 2), int), 4)
    check_codes(codes, NOBODY, FOURS)
    with pytest.raises(MismatchError) as codebook:
        check_codes(replace(codes, codebook="1" * 64), NOBODY, FOURS)
    assert str(codebook.value) == (
        "these codes were made with the codebook 1111111111111111 and cannot be decoded by a "
        "tokenizer whose codebook is 0000000000000000"
    )
    with pytest.raises(MismatchError) as other:
        check_codes(codes, NOBODY, replace(FOURS, depth=2))
    assert str(other.value) == (
        "these codes have codebook_size=4 and depth=0; this tokenizer decodes codebook_size=4 and "
        "depth=2"
    )
    with pytest.raises(MismatchError) as scales:
        check_codes(
            Codes(np.zeros((1, 5), int), np.zeros((1, 2), int), 4, scales=((1, 1), (2, 2))),
            NOBODY,
            FOURS,
        )
    assert str(scales.value) == (
        "these codes have the scales 1x1 2x2; this tokenizer cuts a grid of 2x2 into none"
    )


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("cnn", (16,), "the codes of a picture have the shape (h, w) here, with at least one "
         "token; got (16,)"),
        ("cnn", (0, 4), "the codes of a picture have the shape (h, w) here, with at least one "
         "token; got (0, 4)"),
        ("residual", (4, 4, 2), "the codes of a picture have the shape (h, w, 3) here, with at "
         "least one token; got (4, 4, 2)"),
        ("clips", (4,), "the codes of a clip have the shape (t, h, w) here, with at least one "
         "token; got (4,)"),
        ("sequence", (63,), "a picture has 64 codes here; got 63"),
    ],
)  # fmt: skip
def test_shapes_that_codes_never_have(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CodesError) as error:
        kind(name).codec.traits.check_shape(shape)
    assert str(error.value) == message

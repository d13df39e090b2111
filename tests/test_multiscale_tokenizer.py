"""`VisualTokenizer` where the codes of several grids follow each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from vqtok import VisualTokenizer
from vqtok.errors import CodesError, MismatchError
from vqtok.preprocess import Preprocess

SCALES = [1, 2, 4]


def tokenizer(**settings: Any) -> VisualTokenizer:
    model = tiny.model(quantizer="multiscale", quantizer_args={"scales": SCALES})
    with torch.no_grad():
        latents = model.encode(torch.rand(8, 3, 32, 32) * 2 - 1).latents
        model.quantize.table.embedding.weight.copy_(latents.movedim(1, -1).flatten(0, 2)[:64])
    rule = settings or {"policy": "native", "stride": tiny.STRIDE}
    return VisualTokenizer.from_model(model, Preprocess(**rule))


@pytest.mark.parametrize("grid", [(4, 4), (4, 6), (8, 10), (3, 2)])
def test_codes_know_their_grid(grid: tuple[int, int], tmp_path: Path) -> None:
    tok = tokenizer()
    picture = tiny.picture(*(side * tiny.STRIDE for side in grid))
    (codes,) = tok.encode_images(picture)
    assert codes.scales[-1] == grid and codes.sizes.tolist() == [[*picture.shape[:2]]]
    (back,) = tok.decode_codes(codes, "np")
    assert back.shape == picture.shape
    batch = tok([picture, picture], return_tensors="np")
    assert batch["image_grid_thw"].tolist() == [[1, *grid]] * 2
    others = tok.batch_decode(batch["input_ids"], batch["image_grid_thw"], output_type="np")
    assert all(np.array_equal(other, back) for other in others)
    assert np.array_equal(tok.decode(tok.encode(picture), grid, output_type="np"), back)
    flat = tok.encode_codes(picture)
    assert np.array_equal(tok.decode_codes(flat, "np", [grid])[0], back)
    assert torch.equal(tok.latents(codes)[0], tok._torch_codec().latents(codes)[0])


def test_one_size_of_pictures_is_a_grid() -> None:
    tok = tokenizer(policy="center", size=(16, 24), stride=tiny.STRIDE)
    picture = tiny.picture(30, 40)
    assert tok.decode(tok.encode(picture), output_type="np").shape == (16, 24, 3)


def test_a_grid_is_never_guessed() -> None:
    tok = tokenizer()
    wide, tall = tiny.picture(16, 24), tiny.picture(24, 16)
    assert len(tok.encode(wide)) == len(tok.encode(tall))
    with pytest.raises(CodesError) as error:
        tok.decode(tok.encode(wide))
    assert str(error.value) == (
        "codes of several scales do not tell their grid, and pictures of this tokenizer have "
        "several sizes; pass the grid (h, w)"
    )
    with pytest.raises(CodesError) as count:
        tok.decode_codes(tok.encode_codes([wide, tall]), "np", [(4, 6)])
    assert str(count.value) == "there are codes of 2 pictures and 1 grids"
    with pytest.raises(CodesError) as other:
        tok.decode(tok.encode(wide), (4, 4))
    assert str(other.value) == "a grid of (21,) takes 21 ids; got 32"


def test_scales_that_are_not_its_own() -> None:
    tok = tokenizer()
    (codes,) = tok.encode_images(tiny.picture(16, 16))
    foreign = replace(codes, scales=((1, 1), (2, 2), (2, 2), (3, 4)))
    with pytest.raises(MismatchError) as error:
        tok.decode_codes(foreign)
    assert str(error.value) == (
        "these codes have the scales 1x1 2x2 2x2 3x4; this tokenizer cuts a grid of 3x4 into 1x1 "
        "2x2 3x4"
    )
    assert codes != foreign and codes == replace(codes)
    with pytest.raises(CodesError) as sums:
        replace(codes, scales=((1, 1), (4, 4)))
    assert str(sums.value) == ("the scales 1x1 4x4 hold 17 codes; got codes of the shape (1, 21)")


def test_vectors_of_codes() -> None:
    tok = tokenizer()
    assert torch.equal(tok.vectors([3, 5]), tok.codebook[[3, 5]])
    with pytest.raises(CodesError) as error:
        tok.vectors([3, 64])
    assert str(error.value) == "codes of this tokenizer lie in [0, 64); got some from 3 to 64"
    with pytest.raises(CodesError) as floats:
        tok.vectors([1.5])
    assert str(floats.value) == "codes are whole numbers; got an array of float64"

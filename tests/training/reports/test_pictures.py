"""Sheets of reconstructions: what lies where. That they look well, people have to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from vqtok.errors import InputError
from vqtok.metrics.pixels import from_uint8
from vqtok.sheets import colours_of
from vqtok.training.reports.pictures import colours_of_codes, picture_sheet, save_picture

GAP, MARGIN = 4, 8
COLOURS = np.arange(30, dtype=np.uint8).reshape(10, 3)


def flat(*shape: int, start: int = 0) -> torch.Tensor:
    """uint8 pictures of one value each, (N, 3, *size): start, start + 1, ..."""
    values = torch.arange(start, start + shape[0], dtype=torch.uint8)
    return values.view(-1, *[1] * len(shape)).expand(shape[0], 3, *shape[1:])


def column(number: int, side: int) -> int:
    """Where the middle of a column is."""
    return MARGIN + number * (side + GAP) + side // 2


def test_originals_over_reconstructions_over_codes() -> None:
    x, back = flat(3, 160, 160, start=10), flat(3, 160, 160, start=100)
    codes = torch.zeros(3, 2, 2, dtype=torch.int64)
    codes[1, 0, 0], codes[2] = 7, 9
    sheet = picture_sheet(x, from_uint8(back), codes, COLOURS)
    assert sheet.shape == (2 * MARGIN + 3 * 160 + 2 * GAP, 2 * MARGIN + 3 * 160 + 2 * GAP, 3)
    rows = [column(row, 160) for row in range(3)]
    for number in range(3):
        shown = sheet[rows[:2], column(number, 160)]
        assert shown.tolist() == [[10 + number] * 3, [100 + number] * 3]
    corner = sheet[MARGIN + 2 * (160 + GAP), MARGIN + 160 + GAP]
    assert np.array_equal(corner, COLOURS[7])
    assert np.array_equal(sheet[rows[2] + 40, column(1, 160) + 40], COLOURS[0])
    assert np.array_equal(sheet[rows[2], column(2, 160)], COLOURS[9])


def test_no_more_than_eight_are_shown() -> None:
    x = flat(11, 128, 128)
    codes = torch.zeros(11, 2, 2, dtype=torch.int64)
    sheet = picture_sheet(x, from_uint8(x), codes, COLOURS)
    assert sheet.shape[1] == 2 * MARGIN + 8 * 128 + 7 * GAP


def test_small_pictures_are_enlarged_pixel_by_pixel() -> None:
    x = torch.from_numpy(tiny.picture(32, 32)).permute(2, 0, 1)[None]
    sheet = picture_sheet(x, from_uint8(x), torch.zeros(1, 4, 4, dtype=torch.int64), COLOURS)
    assert sheet.shape[1] == 2 * MARGIN + 128
    shown = sheet[MARGIN : MARGIN + 128, MARGIN : MARGIN + 128]
    assert np.array_equal(shown, tiny.picture(32, 32).repeat(4, 0).repeat(4, 1))
    assert np.array_equal(sheet[MARGIN + 132 : MARGIN + 260, MARGIN : MARGIN + 128], shown)


def test_frames_of_clips_lie_in_a_row() -> None:
    times = torch.arange(16, dtype=torch.uint8).view(1, 1, 16, 1, 1)
    x = (times + 20 * torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1, 1)).expand(
        6, 3, 16, 128, 128
    )
    codes = torch.arange(16).div(4, rounding_mode="floor").view(1, 16, 1, 1).expand(6, 16, 2, 2)
    sheet = picture_sheet(x, from_uint8(x), codes, COLOURS)
    # Four clips of four frames, with more room between clips.
    assert sheet.shape[1] == 2 * MARGIN + 16 * 128 + 3 * GAP + 18 * GAP
    row, below = column(0, 128), column(2, 128)
    first = [column(number, 128) for number in range(4)]
    assert sheet[row, first, 0].tolist() == [0, 5, 10, 15]
    assert np.array_equal(sheet[below, first], COLOURS[[0, 1, 2, 3]])
    second = [place + 4 * (128 + GAP) + 2 * GAP for place in first]
    assert sheet[row, second, 0].tolist() == [20, 25, 30, 35]


def test_a_clip_of_fewer_frames_shows_them_all() -> None:
    x = flat(1, 2, 128, 128)
    codes = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    sheet = picture_sheet(x, from_uint8(x), codes, COLOURS)
    assert sheet.shape[1] == 2 * MARGIN + 2 * 128 + GAP


def test_what_is_no_number_is_grey() -> None:
    x = flat(1, 128, 128)
    codes = torch.zeros(1, 2, 2, dtype=torch.int64)
    sheet = picture_sheet(x, torch.full(x.shape, torch.nan), codes, COLOURS)
    assert sheet[column(1, 128), column(0, 128)].tolist() == [128] * 3


def test_a_title_is_as_wide_as_it_needs() -> None:
    x = flat(1, 128, 128)
    codes = torch.zeros(1, 2, 2, dtype=torch.int64)
    bare = picture_sheet(x, from_uint8(x), codes, COLOURS)
    said = picture_sheet(x, from_uint8(x), codes, COLOURS, "originals, reconstructions, codes, all")
    assert np.array_equal(said[MARGIN - len(bare) :, : bare.shape[1]], bare[MARGIN:])
    assert said.shape[1] > bare.shape[1]
    assert (said[: len(said) - len(bare)] < 128).any()  # there is ink
    assert (said[:, -GAP:] == 255).all()


@pytest.mark.parametrize(
    ("x", "back", "words"),
    [
        ((2, 3, 8, 8), (2, 3, 8, 4), "uint8 (2, 3, 8, 8) and (2, 3, 8, 4)"),
        (None, (1, 3, 8, 8), "float32 (1, 3, 8, 8) and (1, 3, 8, 8)"),
    ],
)
def test_what_does_not_belong_together(
    x: tuple[int, ...] | None, back: tuple[int, ...], words: str
) -> None:
    pixels = torch.zeros(x, dtype=torch.uint8) if x else torch.zeros(1, 3, 8, 8)
    with pytest.raises(InputError) as error:
        picture_sheet(pixels, torch.zeros(back), torch.zeros(1, 2, 2, dtype=torch.int64), COLOURS)
    assert str(error.value) == (
        "a sheet shows uint8 pictures (N, 3, [T,] H, W) and floats of the same shape; got " + words
    )


@pytest.mark.parametrize("name", ["vector", "residual", "grouped", "fsq", "lfq", "simvq"])
def test_colours_are_those_of_a_tokenizer(name: str) -> None:
    settings = {
        "residual": {"num_quantizers": 3},
        "grouped": {"groups": 2},
        "fsq": {"levels": [3, 3, 3, 3]},
    }.get(name, {})
    size = {"lfq": 16, "fsq": 81}.get(name, 64)
    tok = tiny.tokenizer(quantizer=name, quantizer_args=settings, num_vq_embeddings=size)
    assert np.array_equal(colours_of_codes(tok.model.quantize), colours_of(tok))


def test_files_are_named_by_their_step(tmp_path: Path) -> None:
    pixels = tiny.picture(8, 12)
    path = save_picture(pixels, tmp_path / "pictures", 1000)
    assert path == tmp_path / "pictures" / "step-00001000.png"
    assert np.array_equal(np.asarray(Image.open(path)), pixels)

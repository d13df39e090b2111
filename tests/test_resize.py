"""Each resize keeps its bytes, and they are those of what it is named after."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL import __version__ as pillow
from preprocess_pictures import Pixels, noise, slope

from vqtok.resize import RESIZERS, halved

Size = tuple[int, int]
SIDES = st.integers(1, 90)


def sha(pixels: Pixels) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def by_pillow(pixels: Pixels, size: Size, kernel: Image.Resampling) -> Pixels:
    """Pillow's own resize; from 13 on it may take columns first, so there the order is forced."""
    picture, (height, width) = Image.fromarray(pixels), size
    if int(pillow.partition(".")[0]) >= 13:
        picture = picture.resize((width, picture.height), kernel)
    return np.array(picture.resize((width, height), kernel))


def apart(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("name", RESIZERS)
@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES))
def test_sizes_and_types(name: str, source: Size, target: Size) -> None:
    pixels = RESIZERS[name](noise(*source), target)
    assert (pixels.shape, pixels.dtype) == ((*target, 3), np.uint8)
    assert pixels.flags.writeable and pixels.flags.c_contiguous


@pytest.mark.parametrize("name", RESIZERS)
@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_flat_picture_stays_flat(name: str, value: int) -> None:
    flat = np.full((31, 44, 3), value, np.uint8)
    assert set(np.unique(RESIZERS[name](flat, (13, 60)))) == {value}


@pytest.mark.parametrize("name", RESIZERS)
def test_a_part_of_a_picture_needs_no_copy(name: str) -> None:
    part = noise(60, 80)[7:50, 11:70]
    whole = np.ascontiguousarray(part)
    assert np.array_equal(RESIZERS[name](part, (20, 31)), RESIZERS[name](whole, (20, 31)))


@given(source=st.tuples(SIDES, SIDES), side=SIDES)
def test_torch_is_pillows_bicubic_within_one_on_each_axis(source: Size, side: int) -> None:
    pixels = noise(*source)
    for target in ((side, source[1]), (source[0], side)):
        expected = by_pillow(pixels, target, Image.Resampling.BICUBIC)
        assert apart(RESIZERS["torch-u8-bicubic"](pixels, target), expected) <= 1


@pytest.mark.parametrize("target", [(32, 32), (64, 48), (200, 300), (17, 23)])
def test_torch_is_pillows_bicubic_within_one_on_smooth_pictures(target: Size) -> None:
    made = RESIZERS["torch-u8-bicubic"](slope(97, 61), target)
    expected = by_pillow(slope(97, 61), target, Image.Resampling.BICUBIC)
    assert apart(made, expected) <= 1
    assert (made != expected).mean() < 0.02


@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES))
def test_torch_is_the_same_in_every_layout(source: Size, target: Size) -> None:
    assume(target != (1, 1))  # there torch 2.13 fails on channels first, a layout that we don't use
    pixels = noise(*source)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    made = torch.nn.functional.interpolate(
        planes, size=target, mode="bicubic", antialias=True, align_corners=False
    )
    expected = made[0].permute(1, 2, 0).numpy()
    assert np.array_equal(RESIZERS["torch-u8-bicubic"](pixels, target), expected)


def test_torch_is_the_same_with_any_number_of_threads() -> None:
    pixels, before = noise(400, 600), torch.get_num_threads()
    try:
        made = set()
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.add(sha(RESIZERS["torch-u8-bicubic"](pixels, (256, 300))))
    finally:
        torch.set_num_threads(before)
    assert len(made) == 1


def test_torch_is_not_its_float_path() -> None:
    planes = torch.from_numpy(noise(61, 97)).permute(2, 0, 1)[None].float()
    floats = torch.nn.functional.interpolate(planes, size=(32, 51), mode="bicubic", antialias=True)
    rounded = floats.round().clamp(0, 255)[0].permute(1, 2, 0).to(torch.uint8).numpy()
    assert (RESIZERS["torch-u8-bicubic"](noise(61, 97), (32, 51)) != rounded).any()


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("pillow-bilinear", Image.Resampling.BILINEAR),
        ("pillow-bicubic", Image.Resampling.BICUBIC),
        ("pillow-lanczos", Image.Resampling.LANCZOS),
    ],
)
@pytest.mark.parametrize("target", [(65, 55), (57, 103), (20, 20), (150, 80)])
def test_pillows_kernels(name: str, kernel: Image.Resampling, target: Size) -> None:
    made = RESIZERS[name](noise(109, 72), target)
    assert np.array_equal(made, by_pillow(noise(109, 72), target, kernel))


def test_pillow_takes_rows_first_whichever_its_version() -> None:
    assert sha(RESIZERS["pillow-bicubic"](noise(109, 72), (65, 55))) == "dd1baf8276739e73"


# What cv2.resize(..., interpolation=cv2.INTER_LINEAR) gives, by OpenCV 4.5.5 and 5.0.0 alike.
OPENCV = [
    ((61, 97), (40, 64), "2ae8781b289cd475"),
    ((64, 96), (32, 48), "614800cad59123b4"),  # exactly half, where OpenCV takes another path
    ((64, 97), (32, 48), "f7865942862fef6a"),
    ((20, 30), (50, 71), "7c055e3a8c8b09e1"),
    ((5, 3), (1, 1), "2a615facf9da80de"),
    ((1, 1), (4, 7), "c0607356177cde36"),
]


@pytest.mark.parametrize(("source", "target", "expected"), OPENCV)
def test_opencvs_bilinear(source: Size, target: Size, expected: str) -> None:
    assert sha(RESIZERS["opencv-u8-bilinear"](noise(*source), target)) == expected


@settings(max_examples=30)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 300))
def test_halving_stops_below_twice_the_side(height: int, width: int, side: int) -> None:
    down, across = halved(height, width, side)
    assert min(down, across) < 2 * side
    assert min(down, across) >= min(side, height, width)
    times = (height // down).bit_length() - 1
    assert (height >> times, width >> times) == (down, across)

"""From a picture to pixels on the grid: geometry, presets, and bytes that stay."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL import __version__ as pillow
from preprocess_pictures import EXTEND, NATIVE, SETTINGS, Pixels, noise, save, turned

from vqtok.errors import ImageError
from vqtok.preprocess import (
    Geometry,
    Preprocess,
    fit,
    geometry,
    prepare,
    preprocess,
    preprocess_frames,
    probe_pixels,
)

SIDES = st.integers(1, 400)
SIZED = [settings for settings in SETTINGS if settings.size is not None]


def sha(*pictures: Pixels) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.shape).encode() + picture.tobytes())
    return digest.hexdigest()[:16]


# --- geometry ----------------------------------------------------------------------------------


@given(
    SIDES,
    SIDES,
    st.integers(1, 8),
    st.integers(1, 8),
    st.sampled_from(["center", "pad", "stretch"]),
)
def test_sized_policies_give_that_size(h: int, w: int, rows: int, cols: int, policy: Any) -> None:
    settings = Preprocess(policy=policy, size=(8 * rows, 8 * cols), stride=8)
    plan = geometry(h, w, settings)
    assert plan.size == fit(h, w, settings) == (8 * rows, 8 * cols)
    top, left, bottom, right = plan.box
    assert 0 <= top < bottom <= h and 0 <= left < right <= w


@given(SIDES, SIDES, SIDES, SIDES)
def test_center_is_the_largest_box_in_the_middle(h: int, w: int, high: int, wide: int) -> None:
    plan = geometry(h, w, Preprocess(size=(high, wide)))
    top, left, bottom, right = plan.box
    assert h - bottom - top in (0, 1) and w - right - left in (0, 1)
    assert bottom - top == h or right - left == w
    # The box has the result's shape, up to the rounding of its one free side.
    assert abs((bottom - top) * wide - (right - left) * high) <= max(high, wide)
    assert (plan.scaled, plan.at) == (plan.size, (0, 0))


@given(SIDES, SIDES, SIDES, SIDES)
def test_pad_keeps_the_whole_picture_and_its_shape(h: int, w: int, high: int, wide: int) -> None:
    plan = geometry(h, w, Preprocess(policy="pad", size=(high, wide)))
    assert plan.box == (0, 0, h, w)
    assert plan.scaled[0] == high or plan.scaled[1] == wide
    assert abs(plan.scaled[0] * w - plan.scaled[1] * h) <= max(h, w)
    for room, before in zip(np.subtract(plan.size, plan.scaled), plan.at, strict=True):
        assert room - 2 * before in (0, 1)


@given(st.integers(16, 400), st.integers(16, 400))
def test_native_only_cuts(h: int, w: int) -> None:
    plan = geometry(h, w, NATIVE)
    assert plan.scaled == (h, w)
    assert plan.size == (h // 16 * 16, w // 16 * 16)
    for room, before in zip(np.subtract(plan.scaled, plan.size), plan.at, strict=True):
        assert room + 2 * before in (0, 1)


@given(st.integers(16, 400), st.integers(16, 400), st.integers(64, 40_000))
def test_native_shrinks_to_an_area(h: int, w: int, area: int) -> None:
    scaled = geometry(h, w, Preprocess(policy="native", max_area=area)).scaled
    assert scaled[0] * scaled[1] <= area or scaled == (h, w)
    assert (scaled == (h, w)) == (h * w <= area)
    exact = min(1, (area / (h * w)) ** 0.5)
    assert h * exact - 1 <= scaled[0] <= h and w * exact - 1 <= scaled[1] <= w


@given(SIDES, SIDES, st.integers(1, 40))
def test_extend_cuts_nothing(h: int, w: int, stride: int) -> None:
    plan = geometry(h, w, Preprocess(policy="extend", stride=stride))
    assert (plan.box, plan.scaled, plan.at, plan.kept) == ((0, 0, h, w), (h, w), (0, 0), (h, w))
    for side, kept in zip(plan.size, plan.kept, strict=True):
        assert side % stride == 0 and kept <= side < kept + stride


@given(SIDES, SIDES, st.integers(1, 6), st.integers(144, 40_000))
def test_extend_shrinks_to_an_area(h: int, w: int, stride: int, area: int) -> None:
    settings = Preprocess(policy="extend", stride=stride, max_area=area)
    plan = geometry(h, w, settings)
    scaled = plan.scaled
    assert plan.kept == scaled and (scaled == (h, w)) == (h * w <= area)
    assert scaled[0] * scaled[1] <= area or min(scaled) == 1
    exact = min(1, (area / (h * w)) ** 0.5)
    assert max(1, h * exact - 1) <= scaled[0] <= h and max(1, w * exact - 1) <= scaled[1] <= w


@pytest.mark.parametrize("settings", [each for each in SETTINGS if each.policy != "extend"])
def test_other_policies_give_back_all_they_make(settings: Preprocess) -> None:
    for height, width in ((31, 65), (47, 64), (64, 63)):
        plan = geometry(height, width, settings)
        assert plan.kept == plan.size
        assert prepare(noise(height, width), settings).size == plan.size


def test_geometry_by_hand() -> None:
    square = Preprocess(size=32)
    assert geometry(61, 97, square) == Geometry((0, 18, 61, 79), (32, 32), (0, 0), (32, 32))
    tall = Preprocess(size=(3, 2))  # 10 * 2 / 3 is nearer to 7
    assert geometry(10, 100, tall) == Geometry((0, 46, 10, 53), (3, 2), (0, 0), (3, 2))
    pad = Preprocess(policy="pad", size=32)
    assert geometry(61, 97, pad) == Geometry((0, 0, 61, 97), (20, 32), (6, 0), (32, 32))
    assert geometry(61, 97, NATIVE) == Geometry((0, 0, 61, 97), (61, 97), (-6, 0), (48, 96))
    whole = Geometry((0, 0, 61, 97), (61, 97), (0, 0), (64, 112), edges=True)
    assert geometry(61, 97, EXTEND) == whole and whole.kept == (61, 97)
    adm = Preprocess.preset("adm", 20)
    assert geometry(61, 97, adm) == Geometry((0, 0, 61, 97), (20, 32), (0, -6), (20, 20))
    # 127 pixels too many are cut as 63 and 64, on which side first differs.
    there, square = Preprocess.preset("torchvision", 256), (256, 256)
    assert geometry(375, 500, there) == Geometry((0, 0, 375, 500), (256, 341), (0, -42), square)
    assert geometry(600, 401, there) == Geometry((0, 0, 600, 401), (383, 256), (-64, 0), square)
    taming = Preprocess.preset("taming", 256)
    assert geometry(600, 401, taming) == Geometry((0, 0, 600, 401), (383, 256), (-63, 0), square)


def test_pictures_that_native_cannot_take() -> None:
    cell = "policy 'native' needs at least one cell of 16 x 16 pixels"
    with pytest.raises(ImageError) as error:
        fit(15, 400, NATIVE)
    assert str(error.value) == f"the picture is 400 wide and 15 high; {cell}"
    with pytest.raises(ImageError) as error:
        preprocess(noise(40, 400), NATIVE.changed(max_area=1024), name="picture 3")
    assert str(error.value) == (f"picture 3 is 400 wide and 40 high, shrunk to 101 x 10; {cell}")


def test_long_pictures_are_not_blown_up_before_their_crop() -> None:
    settings = Preprocess.preset("taming", 256).changed(max_pixels=10**6)
    with pytest.raises(ImageError) as error:
        preprocess(noise(10, 1000), settings)
    assert str(error.value) == (
        "the picture is 1000 wide and 10 high; before its crop it would be resized to 25600 x 256, "
        "6553600 pixels; at most 1000000 are made"
    )


# --- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
@given(height=st.integers(8, 120), width=st.integers(8, 120))
def test_pixels_come_out_as_the_geometry_says(
    settings: Preprocess, height: int, width: int
) -> None:
    try:
        size = fit(height, width, settings)
    except ImageError:
        assert settings.max_area is not None  # too long to be shrunk
        return
    pixels = preprocess(noise(height, width), settings)
    assert (pixels.shape, pixels.dtype) == ((*size, 3), np.uint8)
    assert not any(side % settings.stride for side in size)


@pytest.mark.parametrize("settings", SIZED)
def test_a_picture_of_the_right_size_passes_unchanged(settings: Preprocess) -> None:
    picture = noise(*settings.sides)
    assert np.array_equal(preprocess(picture, settings), picture)


def test_only_a_crop_where_the_scale_is_one() -> None:
    picture = noise(32, 75)
    assert np.array_equal(preprocess(picture, Preprocess(size=32)), picture[:, 21:53])
    assert np.array_equal(preprocess(picture, NATIVE), picture[:, 5:69])
    for name in ("adm", "taming"):
        settings = Preprocess.preset(name, 32)
        assert np.array_equal(preprocess(picture, settings), picture[:, 21:53])


def test_padding_has_the_backgrounds_colour() -> None:
    settings = Preprocess(policy="pad", size=(32, 20), background=(1, 2, 3))
    pixels = preprocess(noise(10, 20), settings)
    assert np.array_equal(pixels[11:21], noise(10, 20))
    assert set(map(tuple, pixels[:11].reshape(-1, 3))) == {(1, 2, 3)}
    assert set(map(tuple, pixels[21:].reshape(-1, 3))) == {(1, 2, 3)}


@given(st.integers(1, 40), st.integers(1, 40))
def test_extending_repeats_the_edges(height: int, width: int) -> None:
    picture = noise(height, width)
    pixels, size = prepare(picture, EXTEND)
    assert size == (height, width)
    assert np.array_equal(pixels[:height, :width], picture)
    assert (pixels[height:] == pixels[height - 1]).all()
    assert (pixels[:, width:] == pixels[:, width - 1 : width]).all()
    assert pixels.flags["C_CONTIGUOUS"]


def test_transparency_shows_the_backgrounds_colour() -> None:
    clear = np.zeros((32, 32, 4), np.uint8)
    pixels = preprocess(clear, Preprocess(size=32, background=(9, 8, 7)))
    assert set(map(tuple, pixels.reshape(-1, 3))) == {(9, 8, 7)}


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(save(noise(8, 40), "PNG", exif=turned(6)))
    with pytest.raises(ImageError) as error:
        preprocess(path, NATIVE)
    assert str(error.value) == (
        f"'{path}' is 8 wide and 40 high; policy 'native' needs at least one cell of 16 x 16 pixels"
    )
    with pytest.raises(ImageError, match="320 pixels; at most 100 are taken"):
        preprocess(path, Preprocess(size=8, max_pixels=100))


# --- clips -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_frames_are_treated_as_pictures(settings: Preprocess) -> None:
    frames = [noise(50, 70) // (1 + n) for n in range(3)]
    made = list(preprocess_frames(iter(frames), settings))
    for frame, pixels in zip(frames, made, strict=True):
        assert np.array_equal(pixels, preprocess(frame, settings))


def test_frames_come_one_at_a_time() -> None:
    taken: list[int] = []

    def frames() -> Iterator[Pixels]:
        for number in range(3):
            taken.append(number)
            yield noise(20, 30)

    made = preprocess_frames(frames(), Preprocess(size=8))
    assert taken == []
    next(made)
    assert taken == [0]
    assert list(preprocess_frames([], Preprocess(size=8))) == []


def test_frames_of_a_clip_have_one_size() -> None:
    with pytest.raises(ImageError) as error:
        list(preprocess_frames([noise(20, 30), noise(20, 32)], Preprocess(size=8), name="'a.mp4'"))
    assert str(error.value) == (
        "frame 1 of 'a.mp4' is 32 wide and 20 high, the first is 30 x 20; the frames of a clip "
        "have one size"
    )


def test_frames_that_cannot_be_taken() -> None:
    with pytest.raises(ImageError) as error:
        list(preprocess_frames([noise(8, 40)], NATIVE))
    assert str(error.value) == (
        "the clip is 40 wide and 8 high; policy 'native' needs at least one cell of 16 x 16 pixels"
    )
    with pytest.raises(ImageError) as error:
        list(preprocess_frames([noise(8, 40)], Preprocess(size=8, max_pixels=100)))
    assert str(error.value) == (
        "frame 0 of the clip is 40 wide and 8 high, 320 pixels; at most 100 are taken"
    )


# --- presets -----------------------------------------------------------------------------------


def adm(pixels: Pixels, side: int) -> Pixels:
    """Guided diffusion's centre crop, as its authors describe it, in Pillow's own calls."""

    def resized(picture: Image.Image, size: tuple[int, int], kernel: Any) -> Image.Image:
        if int(pillow.partition(".")[0]) >= 13:  # which may take columns first
            picture = picture.resize((size[0], picture.height), kernel)
        return picture.resize(size, kernel)

    picture = Image.fromarray(pixels)
    while min(picture.size) >= 2 * side:
        half = (picture.width // 2, picture.height // 2)
        picture = resized(picture, half, Image.Resampling.BOX)
    scale = side / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    array = np.array(resized(picture, size, Image.Resampling.BICUBIC))
    top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
    return array[top : top + side, left : left + side]


@given(st.integers(5, 300), st.integers(5, 300), st.integers(5, 40))
def test_adm_preset(height: int, width: int, side: int) -> None:
    picture = noise(height, width)
    made = preprocess(picture, Preprocess.preset("adm", side))
    assert np.array_equal(made, adm(picture, side))


# SmallestMaxSize and CenterCrop to 32 with cv2.resize's INTER_LINEAR, OpenCV 4.5.5 and 5.0.0.
TAMING = [
    ((61, 97), "1bbf425ed144ac8a"),
    ((97, 60), "2967817c127494dc"),
    ((20, 31), "a4e011de3314aba3"),
    ((33, 65), "0081444062232742"),
    ((64, 128), "6f40743b71b353b0"),
]


@pytest.mark.parametrize(("size", "expected"), TAMING)
def test_taming_preset(size: tuple[int, int], expected: str) -> None:
    made = preprocess(noise(*size), Preprocess.preset("taming", 32))
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == expected


def torchvision(pixels: Pixels, side: int, kernel: Any) -> Pixels:
    """Resize(side) and CenterCrop(side) as torchvision 0.2 to 0.24 do them to Pillow's pictures."""
    picture = Image.fromarray(pixels)
    width, height = picture.size
    short, long = (width, height) if width <= height else (height, width)
    new = int(side * long / short)
    size = (side, new) if width <= height else (new, side)
    if size != picture.size:
        if int(pillow.partition(".")[0]) >= 13:  # which may take columns first
            picture = picture.resize((size[0], height), kernel)
        picture = picture.resize(size, kernel)
    top, left = round((size[1] - side) / 2.0), round((size[0] - side) / 2.0)
    return np.array(picture.crop((left, top, left + side, top + side)))


KERNELS = {
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
    "pillow-lanczos": Image.Resampling.LANCZOS,
}


@pytest.mark.parametrize("resize", KERNELS)
@pytest.mark.parametrize("size", [(375, 500), (600, 401), (1080, 1920)])
def test_torchvision_preset(size: tuple[int, int], resize: str) -> None:
    picture = noise(*size)
    settings = Preprocess.preset("torchvision", 256).changed(resize=resize)
    made = preprocess(picture, settings)
    assert np.array_equal(made, torchvision(picture, 256, KERNELS[resize]))


@given(st.integers(5, 300), st.integers(5, 300), st.integers(5, 40))
def test_torchvision_sizes_and_crops(height: int, width: int, side: int) -> None:
    picture = noise(height, width)
    made = preprocess(picture, Preprocess.preset("torchvision", side))
    assert np.array_equal(made, torchvision(picture, side, Image.Resampling.BILINEAR))


# --- probes ------------------------------------------------------------------------------------

# Every machine and version must give these. One that differs makes other ids: find out why.
GOLDEN = [
    "063a22a81e60d77c",
    "dec1b6da7bd7ec70",
    "fd5facd6ba0bdd04",
    "d28c15efb73d3a44",
    "87436da67de9758d",
    "cd35314451514928",
    "79b4ae1b54cf5390",
    "f1488bda8ea03c76",
    "50c3509ec0567e49",
    "f7c737ec40b4557e",
    "9fc90f4b626828f2",
    "ddc59875528823fc",
]


@pytest.mark.parametrize(("settings", "expected"), list(zip(SETTINGS, GOLDEN, strict=True)))
def test_probe_pixels_stay_as_they_are(settings: Preprocess, expected: str) -> None:
    assert sha(*probe_pixels(settings)) == expected


def test_probe_pixels_are_the_same_without_vector_instructions() -> None:
    code = (
        "import hashlib\n"
        "from vqtok.preprocess import Preprocess, probe_pixels\n"
        "digest = hashlib.sha256()\n"
        "for picture in probe_pixels(Preprocess(size=48)):\n"
        "    digest.update(repr(picture.shape).encode() + picture.tobytes())\n"
        "print(digest.hexdigest()[:16])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"{GOLDEN[0]}\n", "")


def test_probe_pictures_get_through_any_settings() -> None:
    tight = Preprocess(policy="native", stride=64, max_area=4 * 64**2, max_pixels=1)
    assert {picture.shape for picture in probe_pixels(tight)} == {(64, 64, 3)}
    assert len(probe_pixels(Preprocess(policy="native", stride=256))) == 7


def test_probe_pixels_tell_every_setting_apart() -> None:
    digests = {sha(*probe_pixels(settings)) for settings in SETTINGS}
    digests.add(sha(*probe_pixels(Preprocess(size=48, background=(0, 0, 0)))))
    assert len(digests) == len(SETTINGS) + 1

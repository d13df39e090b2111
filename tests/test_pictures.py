"""Any source becomes RGB bytes, or one sentence says why not."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps
from preprocess_pictures import CASES, Case, bomb, noise, over, save, slope, turned

from vqtok.errors import ConfigError, ImageError, LoadError
from vqtok.pictures import MAX_PIXELS, load_image, probe_pictures


def message(source: Any, kind: type[Exception] = ImageError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        load_image(source, **options)
    assert type(error.value) is kind
    return str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_odd_files(name: str) -> None:
    case: Case = CASES[name]
    if case.message is not None:
        with pytest.raises(ImageError) as error:
            load_image(case.file)
        assert str(error.value) == case.message.format(cause=error.value.__cause__)
        return
    pixels = load_image(case.file)
    assert (pixels.dtype, pixels.shape) == (np.uint8, case.pixels.shape)
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert np.abs(pixels.astype(int) - case.pixels).mean() <= case.tolerance


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF")
def test_avif() -> None:
    pixels = load_image(save(slope(), "AVIF", quality=95, exif=turned(6)))
    assert np.abs(pixels.astype(int) - np.rot90(slope(), -1)).mean() < 3


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientations(orientation: int) -> None:
    file = save(noise(7, 11), "PNG", exif=turned(orientation))
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
    assert np.array_equal(load_image(file), expected)
    assert np.array_equal(load_image(Image.open(io.BytesIO(file))), expected)


def test_a_background_of_another_colour() -> None:
    picture = noise(9, 13, channels=4)
    expected = over(picture[..., :3], picture[..., 3], (10, 200, 30))
    assert np.array_equal(load_image(picture, background=(10, 200, 30)), expected)


def test_every_source_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = noise(9, 13)
    file = save(pixels, "PNG")
    path = tmp_path / "ein Bild ß.png"
    path.write_bytes(file)
    tensor = torch.from_numpy(pixels)
    read_only = pixels.copy()
    read_only.flags.writeable = False
    sources = [path, str(path), file, bytearray(file), memoryview(file), io.BytesIO(file)]
    sources += [Image.fromarray(pixels), Image.open(path), pixels, read_only, pixels[::-1][::-1]]
    sources += [tensor, tensor.permute(2, 0, 1), pixels.astype(np.float64) / 255]
    sources += [tensor / 255, (tensor / 255).double().permute(2, 0, 1).requires_grad_()]
    sources += [np.float16(pixels / 255), pixels.astype(np.uint16) * 256 + 255]
    sources += [(pixels.astype(np.uint16) * 256).astype(">u2")]
    sources += [(tensor / 255).to(torch.float16), tensor.to(torch.uint16) * 257]
    with path.open("rb") as opened:
        for source in (*sources, opened):
            assert np.array_equal(load_image(source), pixels), source


def test_grey_sources() -> None:
    light = noise(9, 13, channels=1)
    expected = light.repeat(3, axis=-1)
    tensor = torch.from_numpy(light)
    for source in (light, light[..., 0], tensor, tensor[..., 0], tensor.permute(2, 0, 1)):
        assert np.array_equal(load_image(source), expected)


def test_bfloat16_tensors() -> None:
    assert load_image(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16))[..., 0].tolist() == [
        [0, 255]
    ]


def test_the_result_is_a_copy() -> None:
    pixels = noise(5, 5)
    load_image(pixels)[:] = 0
    assert pixels.any()


def test_a_picture_stays_at_the_frame_it_stands_at() -> None:
    picture = Image.open(io.BytesIO(CASES["gif animated"].file))
    picture.seek(1)
    assert np.array_equal(load_image(picture), CASES["gif animated"].pixels + 9)


def test_a_picture_is_left_alone() -> None:
    picture = Image.open(io.BytesIO(CASES["jpeg turned"].file))
    load_image(picture)
    assert (picture.size, picture.getexif().get(0x0112)) == ((64, 48), 6)


X = "the picture"
ARRAYS = [
    (np.zeros((3, 8, 8), np.uint8), f"{X} is an array of shape (3, 8, 8); a picture is (H, W), "
     "(H, W, 1), (H, W, 3) or (H, W, 4); channels come last"),
    (np.zeros((2, 8, 8, 3), np.uint8), f"{X} is an array of shape (2, 8, 8, 3); a picture is "
     "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4); pass the pictures of a batch one by one"),
    (np.zeros(8, np.uint8), f"{X} is an array of shape (8,); a picture is (H, W), (H, W, 1), "
     "(H, W, 3) or (H, W, 4)"),
    (np.zeros((0, 8, 3), np.uint8), f"{X} is 8 wide and 0 high; a picture has at least one pixel "
     "each way"),
    (np.zeros((1, 201), np.uint8), f"{X} is 201 wide and 1 high; one side is at most 200 times "
     "the other"),
    (np.zeros((65536, 400), bool), f"{X} is 400 wide and 65536 high; a side has at most 65535 "
     "pixels"),
    (np.zeros((8, 8), np.int64), f"{X} is an array of int64; pixels are uint8, uint16 or floats "
     "in [0, 1]"),
    (np.zeros((8, 8), bool), f"{X} is an array of bool; pixels are uint8, uint16 or floats in "
     "[0, 1]"),
    (np.array([[0.5, np.nan]]), f"{X} has pixels that are NaN or infinite; they must lie in "
     "[0, 1]"),
    (np.array([[-1.0, 1.0]]), f"{X} holds floats from -1 to 1, but they must lie in [0, 1]; if it "
     "lies in [-1, 1], pass (x + 1) / 2"),
    (np.array([[0.0, 255.0]]), f"{X} holds floats from 0 to 255, but they must lie in [0, 1]; if "
     "it lies in 0..255, pass uint8"),
    (np.array([[0.0, 1.5]]), f"{X} holds floats from 0 to 1.5, but they must lie in [0, 1]; clip "
     "or rescale it first"),
    (np.array([[-1e300, 1.5]]), f"{X} holds floats from -1e+300 to 1.5, but they must lie in "
     "[0, 1]; clip or rescale it first"),
    (torch.zeros(3, 8, 3), f"{X} is a tensor of shape (3, 8, 3), whose channels may be the first "
     "or the last axis; pass a numpy array with channels last"),
    (torch.zeros(1, 3, 8, 8), f"{X} is a tensor of shape (1, 3, 8, 8); a picture is (H, W), "
     "(H, W, 1), (H, W, 3) or (H, W, 4); pass the pictures of a batch one by one"),
    (torch.zeros(8, 8, dtype=torch.int32), f"{X} is a tensor of int32; pixels are uint8, uint16 "
     "or floats in [0, 1]"),
    (Image.new("RGB", (0, 5)), f"{X} is 0 wide and 5 high; a picture has at least one pixel each "
     "way"),
    ([[0, 1]], f"{X} is a list; a picture is a path, the bytes of a file, an open file, a PIL "
     "image, an array or a tensor"),
    (None, f"{X} is a NoneType; a picture is a path, the bytes of a file, an open file, a PIL "
     "image, an array or a tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), ARRAYS)
def test_bad_arrays_are_named(source: Any, expected: str) -> None:
    assert message(source) == expected


@pytest.mark.parametrize("url", ["https://x.org/a.jpg", "s3://b/a.png", "data:image/png;base64,A"])
def test_urls_are_not_fetched(url: str) -> None:
    expected = "is a URL, and vqtok fetches none: download it, then pass its path or bytes"
    assert message(url) == f"'{url}' {expected}"


def test_long_urls_are_shown_in_part() -> None:
    begin = "data:image/png;base64," + "A" * 58
    assert message(begin + "A" * 1000).startswith(f"'{begin}...' is a URL,")


def test_bad_paths_are_named(tmp_path: Path) -> None:
    gone, fake, nul = tmp_path / "no.png", tmp_path / "page.jpg", "a\0b"
    fake.write_text("<html>")
    assert message(gone, LoadError) == f"there is no file '{gone}'"
    assert message(str(tmp_path), LoadError) == f"'{tmp_path}' is a folder; a picture is one file"
    assert message("", LoadError) == "there is no file ''"
    assert message(nul, LoadError) == f"'{nul}' cannot be opened: embedded null byte"
    expected = "is not a picture in a format that Pillow reads here"
    assert message(fake) == f"'{fake}' {expected}"
    assert message(fake, name="picture 7") == f"picture 7 {expected}"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file it may not read")
def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch(mode=0)
    assert message(path, LoadError) == f"'{path}' cannot be opened: Permission denied"


def test_files_that_are_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(save(slope(), "PNG"))
    with path.open(encoding="latin-1") as file:
        assert message(file) == "the picture is a file open as text; open it with mode 'rb'"


def test_bombs_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert message(bomb()) == (
        "the picture claims more pixels than are taken from one picture: Image size (900000000 "
        f"pixels) exceeds limit of {MAX_PIXELS} pixels, could be decompression bomb DOS attack."
    )
    assert message(bomb(5000), max_pixels=10**6) == (
        "the picture is 5000 wide and 5000 high, 25000000 pixels; at most 1000000 are taken"
    )


def test_pillows_warning_as_an_error_stays_a_refusal() -> None:
    assert message(bomb(10_000)).startswith("the picture claims more pixels than are taken")


def test_half_pictures_stay_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert message(CASES["jpeg cut at 60 %"].file, ConfigError) == (
        "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so half a file would pass for a picture; set "
        "it to False"
    )


def test_closed_pictures_are_named() -> None:
    picture = Image.open(io.BytesIO(save(slope(), "PNG")))
    picture.close()
    assert message(picture).startswith("the picture is broken or cut short: ")


@given(st.data())
def test_damaged_files_give_pixels_or_an_image_error(data: st.DataObject) -> None:
    names = [name for name in CASES if "16-bit" in name or "palette" in name or "gif" in name]
    file = bytearray(CASES[data.draw(st.sampled_from([*names, "jpeg turned", "tiff turned"]))].file)
    places = st.integers(0, len(file) - 1)
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        file[at] = value
    with contextlib.suppress(ImageError):
        assert load_image(bytes(file), max_pixels=10**6).dtype == np.uint8


def test_probe_pictures_are_of_many_kinds() -> None:
    modes = {name: Image.open(io.BytesIO(file)).mode for name, file in probe_pictures().items()}
    assert sorted(modes.values()) == ["I;16", "P", "RGB", "RGB", "RGB", "RGB", "RGBA"]
    shapes = {name: load_image(file).shape for name, file in probe_pictures().items()}
    assert shapes.pop("sideways") == (97, 61, 3)
    assert set(shapes.values()) == {(61, 97, 3)}
    assert min(load_image(probe_pictures(100)["noise"]).shape[:2]) >= 100


def test_pictures_without_a_resize_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from vqtok.pictures import probe_pictures\n"
        "from vqtok.preprocess import Preprocess, preprocess\n"
        "file = probe_pictures()['sideways']\n"
        "preprocess(file, Preprocess(policy='native', stride=16))\n"
        "preprocess(file, Preprocess.preset('adm', 32))\n"
        "preprocess(file, Preprocess.preset('taming', 32))\n"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def tiled(side: int) -> bytes:
    """A TIFF of 16 x 16 pixels with one tile of another size."""
    tile = zlib.compress(b"\0" * side**2)
    sizes = ((256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side))
    tags = [*sizes, (324, 14 + 12 * (len(sizes) + 2)), (325, len(tile))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + b"\0\0\0\0" + tile


def test_tiles_are_part_of_what_is_decoded() -> None:
    assert load_image(tiled(16), max_pixels=256).shape == (16, 16, 3)
    assert message(tiled(1024), max_pixels=1_000_000) == (
        "the picture has tiles 1024 wide and 1024 high, 1048576 pixels; at most 1000000 are taken"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_colours_as_they_are_kept_are_those_that_pillow_converts(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(37, 53)).save(file, kind)
    found = load_image(file.getvalue())
    assert np.array_equal(found, np.asarray(Image.open(file).convert("RGB")))
    assert found.flags.writeable
    assert found.flags.c_contiguous


def test_a_colour_that_is_transparent_lets_through() -> None:
    picture = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=(1, 2, 3))
    expected = [[[9, 8, 7], [4, 5, 6]]]
    assert load_image(file.getvalue(), background=(9, 8, 7)).tolist() == expected


def test_grey_that_was_multiplied_by_its_alpha() -> None:
    grey = Image.new("LA", (2, 2), (200, 128)).convert("La")
    assert load_image(grey).tolist() == load_image(grey.convert("LA")).tolist()

"""What becomes of a picture or a clip before the network sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from source_files import Pixels, picture, png

from vqtok.errors import ImageError
from vqtok.preprocess import Preprocess, preprocess
from vqtok.resize import RESIZERS
from vqtok.sources import Sample
from vqtok.training.data.stream import Draws
from vqtok.training.data.views import center_view, random_view
from vqtok.training.settings import Data


class Frames:
    """A clip in memory."""

    def __init__(self, frames: Pixels) -> None:
        self.array = frames
        self.length = len(frames)

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        return self.array[start : start + count * stride : stride]


def sample(data: Any) -> Sample:
    return Sample("a", data, {})


def views(data: Any, count: int = 200, **settings: Any) -> list[Pixels]:
    """Random views, (S, S, 3) or (T, S, S, 3)."""
    made = [random_view(sample(data), Data(**settings), Draws(0, n)) for n in range(count)]
    return [np.moveaxis(view.numpy(), 0, -1) for view in made]


def keys(pixels: list[Pixels]) -> set[bytes]:
    return {np.ascontiguousarray(each).tobytes() for each in pixels}


def squares(pixels: Pixels, size: int) -> list[Pixels]:
    """Every square of a picture."""
    height, width = pixels.shape[:2]
    return [
        pixels[top : top + size, left : left + size]
        for top in range(height - size + 1)
        for left in range(width - size + 1)
    ]


def test_random_views_are_all_crops_and_their_mirrors() -> None:
    whole = picture(0, 9, 11)
    crops = squares(whole, 8)
    found = keys(views(whole, size=8, resize="none"))
    assert found == keys(crops) | keys([crop[:, ::-1] for crop in crops])
    assert keys(views(whole, size=8, resize="none", flip=False)) == keys(crops)


def test_a_central_crop_may_be_mirrored() -> None:
    whole = picture(0, 10, 12)
    middle = whole[1:9, 2:10]
    found = keys(views(whole, size=8, resize="none", crop="center"))
    assert found == keys([middle, middle[:, ::-1]])


def test_padding_mirrors_the_border() -> None:
    whole = picture(0, 8, 8)
    padded = np.pad(whole, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    assert np.array_equal(padded[0, 2:10], whole[2])
    for resize in ("none", "short"):
        found = keys(views(whole, 400, size=8, pad=2, flip=False, resize=resize))
        assert found == keys(squares(padded, 8))


@pytest.mark.parametrize(
    ("filter_name", "resizer"),
    [("bicubic", "torch-u8-bicubic"), ("bilinear", "opencv-u8-bilinear")],
)
@pytest.mark.parametrize(("scale", "sides"), [(1.0, (8, 13)), (1.25, (10, 16))])
def test_the_short_side_is_resized(
    filter_name: str, resizer: str, scale: float, sides: tuple[int, int]
) -> None:
    whole = picture(0, 20, 32)
    expected = squares(RESIZERS[resizer](whole, sides), 8)
    settings = {"size": 8, "scale": scale, "filter": filter_name, "flip": False}
    assert keys(views(whole, 400, **settings)) == keys(expected)
    turned = whole.swapaxes(0, 1)
    expected = squares(RESIZERS[resizer](turned, sides[::-1]), 8)
    assert keys(views(turned, 400, **settings)) == keys(expected)


def test_without_resize_only_what_is_too_small_grows() -> None:
    small = picture(0, 6, 9)
    expected = squares(RESIZERS["torch-u8-bicubic"](small, (8, 12)), 8)
    found = keys(views(small, size=8, resize="none", flip=False))
    assert found == keys(expected)


def test_a_central_view_has_no_chance_in_it() -> None:
    whole = picture(0, 20, 32)
    settings = {"size": 8, "scale": 1.5, "pad": 3}
    view = center_view(sample(whole), Data(**settings))
    expected = preprocess(whole, Preprocess(size=8))
    assert np.array_equal(view.permute(1, 2, 0).numpy(), expected)
    view = center_view(sample(whole), Data(resize="none", **settings))
    assert np.array_equal(view.permute(1, 2, 0).numpy(), whole[6:14, 12:20])


def test_pictures_are_opened_as_everywhere() -> None:
    grey = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    view = center_view(sample(png(grey)), Data(size=8))
    assert np.array_equal(view[0].numpy(), grey >> 8)


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_view_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    data, whole = Data(size=8, resize="none", pad=1), sample(picture(0, 16, 16))
    view = random_view(whole, data, Draws(seed, position))
    torch.manual_seed(position)
    np.random.seed(position)
    assert torch.equal(random_view(whole, data, Draws(seed, position)), view)
    assert view.dtype == torch.uint8
    assert view.shape == (3, 8, 8)
    assert view.is_contiguous()


def test_frames_of_a_clip_are_cut_alike() -> None:
    base = picture(0, 10, 10)
    clip = Frames(np.stack([base // 2 + n for n in range(9)]))
    settings = {"size": 8, "resize": "none", "frames": 3, "stride": 2}
    starts = set()
    for view in views(clip, 60, **settings):
        assert view.shape == (3, 8, 8, 3)
        start = view[0].astype(int) - view[0].min()
        assert np.array_equal(view[1], view[0] + 2)
        assert np.array_equal(view[2], view[0] + 4)
        assert start.min() == 0
        starts.add(int(view[0].min()))
    assert len(starts) > 4


def test_windows_of_a_clip() -> None:
    clip = Frames(np.stack([np.full((8, 8, 3), n, np.uint8) for n in range(9)]))
    settings = {"size": 8, "frames": 3, "stride": 2}
    windows = {tuple(view[:, 0, 0, 0].tolist()) for view in views(clip, 100, **settings)}
    assert windows == {(n, n + 2, n + 4) for n in range(5)}
    middle = center_view(sample(clip), Data(**settings))
    assert middle.shape == (3, 3, 8, 8)
    assert middle[0, :, 0, 0].tolist() == [2, 4, 6]


def test_one_frame_of_a_clip_is_a_picture() -> None:
    clip = Frames(np.stack([np.full((8, 8, 3), n, np.uint8) for n in range(4)]))
    assert center_view(sample(clip), Data(size=8, stride=3)).shape == (3, 8, 8)
    assert {int(view[0, 0, 0]) for view in views(clip, 60, size=8, stride=3)} == {0, 1, 2, 3}


def test_clips_that_are_too_short() -> None:
    clip = Frames(np.zeros((4, 8, 8, 3), np.uint8))
    assert views(clip, 1, size=8, frames=2, stride=3)[0].shape == (2, 8, 8, 3)
    for view in (
        lambda data: center_view(sample(clip), data),
        lambda data: random_view(sample(clip), data, Draws(0, 0)),
    ):
        with pytest.raises(ImageError) as error:
            view(Data(size=8, frames=3, stride=2))
        assert str(error.value) == ("the clip has 4 frames; 3 of them, 2 apart, take 5")


def test_what_is_no_picture() -> None:
    with pytest.raises(ImageError) as error:
        center_view(sample(b"hello"), Data(size=8))
    assert str(error.value) == ("the picture is not a picture in a format that Pillow reads here")

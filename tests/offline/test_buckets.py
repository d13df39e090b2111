from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import ConfigError
from vqtok.offline.buckets import bucket_settings, parse_buckets, pick_bucket
from vqtok.offline.views import check_views, made_views, parse_views
from vqtok.preprocess import Preprocess

FORMS = "'256x256,192x320,320x192' (HEIGHTxWIDTH each) or 'auto:256x256@32' (an area and a step)"
BUCKETS = [(256, 256), (192, 320), (320, 192)]


def test_sizes_as_written_are_kept_in_order() -> None:
    assert parse_buckets("256x256, 192x320,320x192", 64) == BUCKETS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"buckets are {FORMS}; got ''"),
        ("256", f"buckets are {FORMS}; got '256'"),
        ("256x256,", f"buckets are {FORMS}; got '256x256,'"),
        ("auto", f"buckets are {FORMS}; got 'auto'"),
        ("64x64,32x64,64x64", "bucket 64x64 is there twice"),
        (
            "64x72",
            "bucket 64x72 is not on the grid: both sides are multiples of the stride, 16, and at "
            "most 65535",
        ),
        (
            "0x64",
            "bucket 0x64 is not on the grid: both sides are multiples of the stride, 16, and at "
            "most 65535",
        ),
        (
            "auto:256x256@24",
            "the step of 'auto:256x256@24' is not a multiple of the stride, 16, above 0",
        ),
        (
            "auto:256x256@0",
            "the step of 'auto:256x256@0' is not a multiple of the stride, 16, above 0",
        ),
        (
            "auto:32x32@64",
            "'auto:32x32@64' leaves no bucket: no size with sides of multiples of 64 has at most "
            "1024 pixels",
        ),
    ],
)
def test_what_are_no_buckets(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_buckets(text, 16)
    assert str(error.value) == message


def test_buckets_that_are_made_up() -> None:
    five = [(256, 256), (224, 288), (288, 224), (192, 320), (320, 192)]
    assert parse_buckets("auto:256x256@32", 16) == five


@given(st.integers(1, 9), st.integers(1, 4), st.integers(36, 400), st.integers(36, 400))
def test_laws_of_buckets_that_are_made_up(stride: int, times: int, high: int, wide: int) -> None:
    step = stride * times
    found = parse_buckets(f"auto:{high}x{wide}@{step}", stride)
    assert len(set(found)) == len(found)
    assert {(width, height) for height, width in found} == set(found)
    for height, width in found:
        assert height % step == width % step == 0 and height * width <= high * wide
        assert max(height, width) <= 2 * min(height, width)
    for a in found:
        assert not any(a != b and a[0] <= b[0] and a[1] <= b[1] for b in found)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((100, 100), (256, 256)),
        ((400, 480), (256, 256)),
        ((480, 640), (192, 320)),
        ((360, 640), (192, 320)),
        ((640, 360), (320, 192)),
        ((10, 2000), (192, 320)),
    ],
)
def test_a_picture_goes_to_the_nearest_shape(size: tuple[int, int], bucket: object) -> None:
    assert pick_bucket(*size, BUCKETS) == bucket


def test_of_equally_near_buckets_the_first_is_taken() -> None:
    assert pick_bucket(100, 100, [(32, 64), (64, 32)]) == (32, 64)
    assert pick_bucket(100, 100, [(64, 32), (32, 64)]) == (64, 32)
    # One shape, two sizes.
    assert pick_bucket(10, 20, [(64, 64), (32, 64), (64, 128)]) == (32, 64)


@given(st.integers(1, 999), st.integers(1, 999), st.lists(st.tuples(*[st.integers(1, 99)] * 2)))
def test_nearest_is_nearest(height: int, width: int, more: list[tuple[int, int]]) -> None:
    buckets = [*BUCKETS, *more]

    def apart(size: tuple[int, int]) -> float:
        return abs(math.log(height / width) - math.log(size[0] / size[1]))

    assert apart(pick_bucket(height, width, buckets)) <= min(map(apart, buckets)) + 1e-12


@pytest.mark.parametrize(
    "settings",
    [
        Preprocess(size=256, stride=16),
        Preprocess.preset("adm", 256, 16),
        Preprocess(policy="native", stride=16, max_area=9999),
        Preprocess(policy="pad", size=64, stride=16, background=(1, 2, 3)),
    ],
)
def test_a_bucket_is_a_crop_in_the_middle_and_has_all_views(settings: Preprocess) -> None:
    own = bucket_settings(settings, (32, 48))
    assert (own.policy, own.sides, own.stride) == ("center", (32, 48), settings.stride)
    assert (own.resize, own.background) == (settings.resize, settings.background)
    views = parse_views(["center", "hflip", "tencrop", "random:2"])
    check_views(views, own)
    pixels = np.zeros((100, 170, 3), np.uint8)
    made = made_views(views, pixels, own, key="a", seed=0)
    assert {view.pixels.shape for view in made} == {(32, 48, 3)}
    assert made[0].box == (0, 10, 100, 150)

"""Buckets: a few sizes of one area, so that pictures of many shapes keep most of what they show.

A picture goes to the bucket whose shape is nearest to its own, and is cropped in the middle to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from vqtok.errors import ConfigError
from vqtok.pictures import MAX_SIDE
from vqtok.preprocess import Preprocess
from vqtok.resize import Size

__all__ = ["bucket_settings", "parse_buckets", "pick_bucket"]

LONGEST = 2  # times the short side, of buckets that are made up here
FORMS = "'256x256,192x320,320x192' (HEIGHTxWIDTH each) or 'auto:256x256@32' (an area and a step)"


def parse_buckets(text: str, stride: int) -> list[Size]:
    """Sizes as written, or made up: (height, width) each, multiples of the stride.

    `auto:256x256@32` are the sizes of at most that area whose sides are multiples of 32, none of
    which fits into another or is longer than twice its short side; the squarest come first.
    """
    auto = re.fullmatch(r"auto:(\d{1,5})x(\d{1,5})@(\d{1,5})", text.strip())
    if auto:
        height, width, step = map(int, auto.groups())
        return _automatic(height * width, step, stride, text)
    buckets: list[Size] = []
    for part in text.split(","):
        sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", part.strip())
        if sides is None:
            raise ConfigError(f"buckets are {FORMS}; got {text!r}")
        bucket = int(sides[1]), int(sides[2])
        _check(bucket, stride)
        if bucket in buckets:
            raise ConfigError(f"bucket {part.strip()} is there twice")
        buckets.append(bucket)
    return buckets


def pick_bucket(height: int, width: int, buckets: Sequence[Size]) -> Size:
    """The bucket of the nearest shape, by the ratio of ratios; of several the first."""

    def apart(bucket: Size) -> Fraction:
        ratio = Fraction(height * bucket[1], width * bucket[0])
        return max(ratio, 1 / ratio)

    return min(buckets, key=apart)


def bucket_settings(settings: Preprocess, bucket: Size) -> Preprocess:
    """The settings that a picture of this bucket is prepared with: its middle, resized as ever."""
    return settings.changed(policy="center", size=bucket)


def _check(bucket: Size, stride: int) -> None:
    if not all(0 < side <= MAX_SIDE and side % stride == 0 for side in bucket):
        raise ConfigError(
            f"bucket {bucket[0]}x{bucket[1]} is not on the grid: both sides are multiples of the "
            f"stride, {stride}, and at most {MAX_SIDE}"
        )


def _automatic(area: int, step: int, stride: int, text: str) -> list[Size]:
    if step < 1 or step % stride:
        raise ConfigError(
            f"the step of {text!r} is not a multiple of the stride, {stride}, above 0"
        )
    side = step
    found: set[Size] = set()
    while side * side <= area:  # the short sides
        room = min(area // side, LONGEST * side, MAX_SIDE)
        long = room // step * step
        found |= {(side, long), (long, side)}
        side += step
    if not found:
        raise ConfigError(
            f"{text!r} leaves no bucket: no size with sides of multiples of {step} has at most "
            f"{area} pixels"
        )
    squarest = sorted(found, key=lambda size: (Fraction(max(size), min(size)), size))
    return [size for size in squarest if not _inside(size, found)]


def _inside(size: Size, sizes: set[Size]) -> bool:
    """Whether another size holds this one."""
    return any(size != one and size[0] <= one[0] and size[1] <= one[1] for one in sizes)

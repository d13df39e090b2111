"""Which part of a picture ends up where on the grid, for each policy of `Preprocess`; no pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from vqtok.errors import ImageError
from vqtok.resize import Size, halved

if TYPE_CHECKING:
    from vqtok.preprocess import Preprocess

__all__ = ["POLICIES", "Geometry", "fit", "geometry"]


class Geometry(NamedTuple):
    """Which pixels of a picture end up where; heights before widths, tops before lefts."""

    box: tuple[int, int, int, int]  # top, left, bottom, right: the part that is used
    scaled: Size  # what the box is resized to
    at: tuple[int, int]  # where its corner lies in the result: negative cuts, positive pads
    size: Size  # of the result
    edges: bool = False  # what is padded repeats the edges, and decoding cuts it off again

    @property
    def kept(self) -> Size:
        """What comes back of the result when its codes are decoded, from its top left corner."""
        return self.scaled if self.edges else self.size


def geometry(
    height: int, width: int, settings: Preprocess, *, name: str = "the picture"
) -> Geometry:
    """What `settings` do to a picture of this size, without touching pixels."""
    return POLICIES[settings.policy](height, width, settings, name)


def fit(height: int, width: int, settings: Preprocess) -> Size:
    """Height and width, in pixels, that a picture of this size comes out with."""
    return geometry(height, width, settings).size


def _center(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    size = settings.sides
    box = _shaped_like(size, height, width)
    top, left = (height - box[0]) // 2, (width - box[1]) // 2
    return Geometry((top, left, top + box[0], left + box[1]), size, (0, 0), size)


def _stretch(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    return _whole(height, width, settings.sides, settings.sides)


def _pad(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    scaled = _shaped_like((height, width), *settings.sides)
    return _whole(height, width, scaled, settings.sides)


def _native(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    scaled = _within(height, width, settings.max_area)
    size = tuple(side // settings.stride * settings.stride for side in scaled)
    if min(size) < 1:
        shrunk = f", shrunk to {scaled[1]} x {scaled[0]}" if scaled != (height, width) else ""
        raise ImageError(
            f"{name} is {width} wide and {height} high{shrunk}; policy 'native' needs at least "
            f"one cell of {settings.stride} x {settings.stride} pixels"
        )
    return _whole(height, width, scaled, (size[0], size[1]))


def _extend(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    down, across = _within(height, width, settings.max_area)
    scaled, stride = (max(1, down), max(1, across)), settings.stride
    size = (-(-scaled[0] // stride) * stride, -(-scaled[1] // stride) * stride)
    return Geometry((0, 0, height, width), scaled, (0, 0), size, edges=True)


def _within(height: int, width: int, area: int | None) -> Size:
    """The sides, or those of that shape that hold `area` pixels, rounded down."""
    if area is None or height * width <= area:
        return height, width
    return math.isqrt(area * height // width), math.isqrt(area * width // height)


def _adm(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    # The halved sides, rounded down, decide the final ones.
    half = halved(height, width, min(settings.sides))
    return _covering(height, width, half, settings, name)


def _taming(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    return _covering(height, width, (height, width), settings, name)


def _torchvision(height: int, width: int, settings: Preprocess, name: str) -> Geometry:
    side, short = settings.sides[0], min(height, width)
    scaled = int(side * height / short), int(side * width / short)
    _check_made(height, width, scaled, settings, name)
    # Rounded half to even, where other policies round down.
    at = -round((scaled[0] - side) / 2), -round((scaled[1] - side) / 2)
    return Geometry((0, 0, height, width), scaled, at, settings.sides)


POLICIES: dict[str, Callable[[int, int, Preprocess, str], Geometry]] = {
    "center": _center,
    "stretch": _stretch,
    "pad": _pad,
    "native": _native,
    "extend": _extend,
    "adm": _adm,
    "taming": _taming,
    "torchvision": _torchvision,
}


def _whole(height: int, width: int, scaled: Size, size: Size) -> Geometry:
    """The whole picture, its middle on the middle of the result."""
    at = tuple(
        room // 2 if room >= 0 else -(-room // 2)
        for room in (size[0] - scaled[0], size[1] - scaled[1])
    )
    return Geometry((0, 0, height, width), scaled, (at[0], at[1]), size)


def _shaped_like(shape: Size, height: int, width: int) -> Size:
    """The largest box in (height, width) with the sides' ratio of `shape`, rounded half up."""
    across, down = width * shape[0], height * shape[1]
    if across >= down:
        return height, max(1, (2 * down + shape[0]) // (2 * shape[0]))
    return max(1, (2 * across + shape[1]) // (2 * shape[1])), width


def _covering(height: int, width: int, shape: Size, settings: Preprocess, name: str) -> Geometry:
    """The whole picture, in the ratio of `shape`, so that its short side is the result's.

    In floats and with their rounding, as the published code has it.
    """
    scale = settings.sides[0] / min(shape)
    scaled = round(shape[0] * scale), round(shape[1] * scale)
    _check_made(height, width, scaled, settings, name)
    return _whole(height, width, scaled, settings.sides)


def _check_made(height: int, width: int, scaled: Size, settings: Preprocess, name: str) -> None:
    """Raises where a long picture would be blown up before its crop."""
    if scaled[0] * scaled[1] > settings.max_pixels:
        raise ImageError(
            f"{name} is {width} wide and {height} high; before its crop it would be resized to "
            f"{scaled[1]} x {scaled[0]}, {scaled[0] * scaled[1]} pixels; at most "
            f"{settings.max_pixels} are made"
        )

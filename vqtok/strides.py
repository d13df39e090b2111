"""Pixels and grids of tokens, an axis at a time. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from vqtok.errors import ImageError

__all__ = ["Scales", "by", "grid_of", "share", "size_of", "token_of"]

Scales = tuple[tuple[int, int], ...]


def grid_of(size: Sequence[int], stride: Sequence[int], *, causal: bool = False) -> tuple[int, ...]:
    """Pixels (H, W) or (T, H, W) -> tokens, an axis each; `ImageError` where they do not divide.

    causal  the first frame is a token by itself, so that there are 1 + n * stride frames
    """
    _check_axes(size, stride)
    early = _early(stride, causal)
    wrong = any(
        side < 1 or (side - first) % step
        for side, step, first in zip(size, stride, early, strict=True)
    )
    if wrong:
        raise ImageError(
            f"the sides of a {_what(stride)} are {_rule(stride, causal)}; got {by(size)}"
        )
    return tuple(
        first + (side - first) // step
        for side, step, first in zip(size, stride, early, strict=True)
    )


def size_of(grid: Sequence[int], stride: Sequence[int], *, causal: bool = False) -> tuple[int, ...]:
    """Tokens (h, w) or (t, h, w) -> pixels, an axis each."""
    _check_axes(grid, stride)
    early = _early(stride, causal)
    return tuple(
        first + (cells - first) * step
        for cells, step, first in zip(grid, stride, early, strict=True)
    )


def token_of(frame: int, step: int, *, causal: bool = False) -> int:
    """Which token along time shows a frame, where one is `step` frames deep."""
    return -(-frame // step) if causal else frame // step


def share(length: int, part: int, whole: int) -> int:
    """The side that a scale of side `part` of `whole` has in a grid of `length`; halves up."""
    return (2 * length * part + whole) // (2 * whole)


def by(sides: Sequence[int]) -> str:
    """Sides as messages write them."""
    return " x ".join(map(str, sides))


def _check_axes(sides: Sequence[int], stride: Sequence[int]) -> None:
    if len(sides) != len(stride):
        names = "height and width" if len(stride) == 2 else "frames, height and width"
        raise ImageError(f"a {_what(stride)} has the axes {names}; got {tuple(sides)}")


def _early(stride: Sequence[int], causal: bool) -> tuple[int, ...]:
    """How many pixels of each axis come before the first whole step."""
    return tuple(int(causal and not axis) for axis in range(len(stride)))


def _what(stride: Sequence[int]) -> str:
    return "picture" if len(stride) == 2 else "clip"


def _rule(stride: Sequence[int], causal: bool) -> str:
    if not causal:
        return f"multiples of {by(stride)}"
    return f"1 + a multiple of {stride[0]} frames, and multiples of {by(stride[1:])}"

"""Pixels and grids of tokens, an axis at a time, and which codes a tokenizer takes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vqtok.errors import CodesError, ImageError, MismatchError
from vqtok.types import Codes, Fingerprint

__all__ = [
    "Quantizing",
    "Scales",
    "Sized",
    "by",
    "check_codes",
    "check_sizes",
    "grid_of",
    "share",
    "size_of",
]

Scales = tuple[tuple[int, int], ...]


class Sized(Protocol):
    """What says how large a grid's picture is: an autoencoder, or who knows about one."""

    @property
    def stride(self) -> tuple[int, ...]: ...
    @property
    def only_size(self) -> tuple[int, int] | None: ...
    def size_of(self, grid: tuple[int, ...]) -> tuple[int, ...]: ...


class Quantizing(Protocol):
    """What says which codes there are: a quantizer, or who knows about one."""

    @property
    def codebook_size(self) -> int: ...
    @property
    def depth(self) -> int: ...
    def scales_of(self, grid: Sequence[int]) -> Scales: ...


# --- sizes and grids ------------------------------------------------------------------------------


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


# --- codes ----------------------------------------------------------------------------------------


def check_codes(codes: Codes, fingerprint: Fingerprint, quantize: Quantizing, model: Sized) -> None:
    """Raises where a tokenizer cannot decode codes: they are another codebook's, or of no grid."""
    if not fingerprint.can_decode(codes):
        raise MismatchError(
            f"these codes were made with the codebook {codes.codebook[:16]} and cannot be "
            f"decoded by a tokenizer whose codebook is {fingerprint.codebook[:16]}"
        )
    if (codes.codebook_size, codes.depth) != (quantize.codebook_size, quantize.depth):
        raise MismatchError(
            f"these codes have codebook_size={codes.codebook_size} and depth={codes.depth}; "
            f"this tokenizer decodes codebook_size={quantize.codebook_size} and "
            f"depth={quantize.depth}"
        )
    if codes.scales and codes.scales != (own := quantize.scales_of(codes.scales[-1])):
        raise MismatchError(
            f"these codes have the scales {_shown(codes.scales)}; this tokenizer cuts a grid "
            f"of {_shown(codes.scales[-1:])} into {_shown(own) or 'none'}"
        )
    check_sizes(model, codes)


def check_sizes(model: Sized, codes: Codes) -> None:
    """Raises where codes claim to stand for more pixels than their grid does, or for too few.

    Less than a grid stands for is what remains when repeated frames and edges are cut off: they
    never fill a whole token. 0 is a side that is not known.
    """
    grid = codes.scales[-1] if codes.scales else codes.grid
    if len(grid) != len(model.stride) and model.only_size is None:
        return  # a sequence that does not say of which grid
    most = model.size_of(grid)
    less = tuple(cells - 1 for cells in grid)
    least = [1] * len(most)
    if model.only_size is None:
        least = [max(0, side) + 1 for side in model.size_of(less)]
    for size in codes.sizes.tolist():
        ranges = zip(size, least, most, strict=False)
        if any(side and not low <= side <= high for side, low, high in ranges):
            raise CodesError(
                f"a grid of {by(grid)} codes stands for {by(least)} to {by(most)} pixels, "
                f"{'frames, ' * (len(most) == 3)}height and width; got the size {size}"
            )


def _shown(scales: Scales) -> str:
    return " ".join(f"{height}x{width}" for height, width in scales)

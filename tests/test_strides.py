"""Pixels and grids of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import CodesError, ImageError
from vqtok.strides import by, check_sizes, grid_of, share, size_of
from vqtok.types import Codes

STRIDES = st.tuples(st.integers(1, 8), st.integers(1, 16), st.integers(1, 16))
GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))


@given(GRIDS, STRIDES, st.booleans())
def test_a_grid_is_that_of_its_size(
    grid: tuple[int, ...], stride: tuple[int, ...], causal: bool
) -> None:
    size = size_of(grid, stride, causal=causal)
    assert grid_of(size, stride, causal=causal) == grid
    assert size_of(grid[1:], stride[1:]) == size[1:]
    if stride[2] > 1:
        with pytest.raises(ImageError):
            grid_of((*size[:2], size[2] + 1), stride, causal=causal)


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_scale_keeps_its_share(length: int, whole: int) -> None:
    assert share(whole, length, whole) == length
    assert share(length, whole, whole) == length
    assert abs(share(length, 1, 2) - length / 2) <= 0.5


def test_messages() -> None:
    for size, stride, causal, message in (
        ((7, 8), (4, 4), False, "the sides of a picture are multiples of 4 x 4; got 7 x 8"),
        ((8,), (4, 4), False, "a picture has the axes height and width; got (8,)"),
        ((8, 8), (2, 4, 4), False, "a clip has the axes frames, height and width; got (8, 8)"),
        (
            (4, 8, 8),
            (2, 4, 4),
            True,
            "the sides of a clip are 1 + a multiple of 2 frames, and multiples of 4 x 4; got "
            "4 x 8 x 8",
        ),
    ):
        with pytest.raises(ImageError) as error:
            grid_of(size, stride, causal=causal)
        assert str(error.value) == message
    assert by((1, 2, 3)) == "1 x 2 x 3"


class Fours:
    """Tokens of 4 x 4 pixels."""

    stride = (4, 4)
    only_size = None

    def size_of(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return size_of(grid, self.stride)


def test_codes_stand_for_what_their_grid_does() -> None:
    for size in ((8, 12), (5, 9), (0, 0), (0, 12)):
        check_sizes(Fours(), Codes(np.zeros((1, 2, 3), int), np.array([size]), 4))
    for size in ((4, 12), (8, 13), (9, 0)):
        with pytest.raises(CodesError) as error:
            check_sizes(Fours(), Codes(np.zeros((1, 2, 3), int), np.array([size]), 4))
        assert str(error.value) == (
            "a grid of 2 x 3 codes stands for 5 x 9 to 8 x 12 pixels, height and width; got the "
            f"size {list(size)}"
        )

"""Pixels and grids of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import ImageError
from vqtok.strides import by, grid_of, share, size_of

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

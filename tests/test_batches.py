"""What goes through a codec together, and what comes back of it."""

from __future__ import annotations

import numpy as np
import pytest

from vqtok.batches import cut, memory


@pytest.mark.parametrize(
    ("shape", "size", "left"),
    [
        ((16, 16, 3), (), (16, 16, 3)),
        ((16, 16, 3), (0, 0), (16, 16, 3)),
        ((16, 16, 3), (15, 0), (15, 16, 3)),
        ((4, 16, 16, 3), (3, 15, 14), (3, 15, 14, 3)),
    ],
)
def test_pixels_are_cut_where_their_size_is_known(
    shape: tuple[int, ...], size: tuple[int, ...], left: tuple[int, ...]
) -> None:
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    found = cut(pixels, size)
    assert found.shape == left
    assert np.shares_memory(found, pixels)
    assert np.array_equal(found, pixels[tuple(map(slice, left))])


def test_memory_is_bytes() -> None:
    found = memory(12, pinned=False)
    assert (found.shape, found.dtype) == ((12,), np.uint8)
    found[:] = 1

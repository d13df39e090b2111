"""Vectors at other sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vqtok.quantizers._resample import area, bicubic

side = st.integers(1, 17)
sides = st.tuples(side, side)


@settings(max_examples=50)
@given(sides, sides)
def test_as_torch_interpolates(source: tuple[int, int], target: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *source, dtype=torch.float64)
    torch.testing.assert_close(area(x, target), F.interpolate(x, size=target, mode="area"))
    torch.testing.assert_close(bicubic(x, target), F.interpolate(x, size=target, mode="bicubic"))


def test_the_same_size_is_the_same_values() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    assert torch.equal(area(x, (5, 7)), x)
    assert torch.equal(bicubic(x, (5, 7)), x)


@pytest.mark.parametrize("how", [area, bicubic])
def test_gradients_cross(how: object) -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: how(x, (2, 5)), x)  # type: ignore[operator]

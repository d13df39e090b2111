"""Where a gradient is not turned, and where its scale ends."""

from __future__ import annotations

import pytest
import torch
from estimator_oracles import GUARDED, MAPS, gradient, pair, some_gradient
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.estimators import ESTIMATORS

each = pytest.mark.parametrize("name", GUARDED)


def carried(name: str, e: Tensor, q: Tensor, g: Tensor) -> Tensor:
    return (MAPS[name](e, q) @ g[:, :, None])[:, :, 0]


def test_who_has_a_guard() -> None:
    rotating = {name for name in ESTIMATORS if ESTIMATORS[name].rotates}
    assert set(GUARDED) == rotating | {"reflection", "scale_only"}


@each
@pytest.mark.parametrize(
    ("arguments", "angle", "through"),
    [
        ({}, 89.9, False),
        ({}, 90.1, True),
        ({}, 170.0, True),
        ({"max_angle": 30.0}, 29.9, False),
        ({"max_angle": 30.0}, 30.1, True),
        ({"max_angle": 120}, 119.9, False),
        ({"max_angle": 120}, 120.1, True),
        ({"max_angle": 180}, 170.0, False),
        ({"strict": True}, 170.0, False),
        ({"strict": True, "max_angle": 30.0}, 170.0, False),
    ],
)
def test_over_the_angle_it_goes_straight_through(
    name: str, arguments: dict[str, float | bool], angle: float, through: bool
) -> None:
    e, q = pair(8, angle)
    g = some_gradient(e)
    back = gradient(name, e, q, g, **arguments)
    if through:
        assert torch.equal(back, g)
    else:
        torch.testing.assert_close(back, carried(name, e, q, g), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ninety_degrees_are_not_over_ninety(dtype: torch.dtype) -> None:
    e, q = torch.tensor([[1.0, 0]], dtype=dtype), torch.tensor([[0, 2.0]], dtype=dtype)
    assert gradient("rotation", e, q, torch.tensor([[0, 1.0]], dtype=dtype)).tolist() == [[2, 0]]


@each
@pytest.mark.parametrize("strict", [False, True])
def test_where_there_is_no_rotation_it_always_goes_straight_through(
    name: str, strict: bool
) -> None:
    e = torch.tensor([[1.0, 2, 3], [0, 0, 0], [1, 2, 3], [0, 0, 0], [1e-7, 0, 0], [1, 2, 3]])
    q = torch.tensor([[-2.0, -4, -6], [1, 2, 3], [0, 0, 0], [0, 0, 0], [1, 2, 3], [-1, -2, -3]])
    g = some_gradient(e)
    assert torch.equal(gradient(name, e, q, g, strict=strict), g)


def test_one_dimension_has_no_angle_but_a_scale() -> None:
    e, q = torch.tensor([[2.0], [2.0]]), torch.tensor([[3.0], [-3.0]])
    assert gradient("rotation", e, q, torch.ones(2, 1), strict=True).tolist() == [[1.5], [1.0]]


@pytest.mark.parametrize(("ratio", "expected"), [(0.01, 0.25), (0.5, 0.5), (3.0, 3.0), (9.0, 4.0)])
def test_the_scale_ends_at_max_scale(ratio: float, expected: float) -> None:
    e, q = pair(8, 60.0, ratio)
    g = some_gradient(e)
    length = gradient("rotation", e, q, g, max_scale=4).norm(dim=1) / g.norm(dim=1)
    torch.testing.assert_close(length, torch.full_like(length, expected))


@each
@pytest.mark.parametrize("angle", [0, -5.0, 180.5, float("nan")])
def test_an_angle_that_cannot_be(name: str, angle: float) -> None:
    with pytest.raises(ConfigError) as error:
        ESTIMATORS[name](*pair(8, 20.0), max_angle=angle)
    assert str(error.value) == f"max_angle lies in (0, 180] degrees; got {angle}"


@pytest.mark.parametrize("bound", [0, 0.5, -1.0, float("nan")])
def test_a_scale_that_cannot_be(bound: float) -> None:
    with pytest.raises(ConfigError) as error:
        ESTIMATORS["rotation"](*pair(8, 20.0), max_scale=bound)
    assert str(error.value) == (
        f"max_scale bounds a ratio from above and is at least 1; got {bound}"
    )

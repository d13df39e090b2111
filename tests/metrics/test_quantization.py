"""The quantizer's error against numpy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vqtok.errors import InputError
from vqtok.metrics.quantization import QuantizationSums, statistics


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_against_numpy() -> None:
    e, q = normal(50, 4, 8) + 1, normal(50, 4, 8, seed=1) * 2
    found = statistics(e, q)
    x, y = (t.double().numpy().reshape(-1, 8) for t in (e, q))
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    cosine = (x * y).sum(1) / lengths[0] / lengths[1]
    quantiles = np.quantile(lengths[1] / lengths[0], [0.05, 0.5, 0.95])
    expected = (
        np.square(x - y).sum(1).mean(),
        np.square(x - y).mean(),
        np.square(x - y).sum(1).mean() / x.var(axis=0).sum(),
        lengths[0].mean(),
        lengths[1].mean(),
        np.degrees(np.arccos(cosine)).mean(),
        (cosine < 0).mean(),
        *quantiles,
    )
    assert tuple(found) == pytest.approx(expected, rel=1e-9)


def test_by_hand() -> None:
    e = torch.tensor([[1.0, 0], [0, 2], [3, 0], [0, -4]])
    q = torch.tensor([[2.0, 0], [2, 0], [-3, 0], [0, -4]])
    found = statistics(e, q)
    assert found.error == pytest.approx((1 + 8 + 36 + 0) / 4)
    assert found.mean_squared_error == pytest.approx(45 / 8)
    assert found.relative_error == pytest.approx(45 / 25)
    assert (found.e_norm, found.q_norm) == (2.5, 2.75)
    assert found.angle == pytest.approx((0 + 90 + 180 + 0) / 4)
    assert found.obtuse == 0.25  # a right angle is none
    assert found.scale_p50 == pytest.approx(1)


def test_a_relative_error_does_not_shrink_with_the_vectors() -> None:
    e, q = normal(99, 8), normal(99, 8, seed=1)
    whole, small = statistics(e, q), statistics(e * 2**-20, q * 2**-20)
    assert small.error == pytest.approx(whole.error * 2**-40)
    for name in ("relative_error", "angle", "obtuse", "scale_p05", "scale_p95"):
        assert getattr(small, name) == pytest.approx(getattr(whole, name))


@pytest.mark.parametrize("degrees", [1e-5, 179.99999])
def test_angles_near_the_ends_keep_their_digits(degrees: float) -> None:
    turn = math.radians(degrees)
    e = torch.tensor([[1.0, 0]], dtype=torch.float64)
    q = torch.tensor([[math.cos(turn), math.sin(turn)]], dtype=torch.float64)
    assert statistics(e, q).angle == pytest.approx(degrees, rel=1e-9)


def test_off_the_origin_the_variance_keeps_its_digits() -> None:
    e = normal(400, 4).double() * 1e-3 + 1000
    q = e + 1e-4
    expected = 4e-8 / e.numpy().var(axis=0).sum()
    assert statistics(e, q).relative_error == pytest.approx(expected, rel=1e-6)


def test_vectors_without_a_length_have_no_angle() -> None:
    e, q = torch.tensor([[0.0, 0], [1, 0]]), torch.tensor([[1.0, 0], [0, 3]])
    found = statistics(e, q)
    assert found.angle == pytest.approx(90)
    assert found.scale_p05 == found.scale_p95 == pytest.approx(3)
    none = statistics(e[:1], q[:1])
    assert math.isnan(none.angle) and math.isnan(none.scale_p50) and math.isnan(none.obtuse)
    assert math.isnan(none.relative_error)  # of one vector there is no variance
    assert (none.error, none.q_norm) == (1, 1)


def test_halves_and_gradients() -> None:
    e, q = normal(9, 4).bfloat16().requires_grad_(), normal(9, 4, seed=1).bfloat16()
    assert statistics(e, q) == statistics(e.double(), q.double())


@pytest.mark.parametrize("shapes", [((3, 4), (4, 4)), ((0, 4), (0, 4)), ((3, 0), (3, 0))])
def test_vectors_that_do_not_fit(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(InputError) as error:
        statistics(*map(torch.zeros, shapes))
    assert str(error.value) == (
        "statistics are those of vectors (..., D), at least one, and of as many codes; got "
        f"{shapes[0]} and {shapes[1]}"
    )


@pytest.mark.parametrize("cuts", [[50], [1, 49], [7, 13, 30], [49, 1]])
def test_parts_add_up(cuts: list[int]) -> None:
    e, q = normal(50, 8) * 3 + 100, normal(50, 8, seed=1) * 3 + 99
    whole, joined = QuantizationSums(), QuantizationSums()
    whole.add(e, q)
    for x, y in list(zip(e.split(cuts), q.split(cuts), strict=True))[::-1]:
        part = QuantizationSums()
        part.add(x, y)
        joined.merge(part)
        joined.merge(QuantizationSums())
    assert joined.result() == pytest.approx(whole.result(), rel=1e-12)


def test_quantiles_of_sums_are_those_of_vectors_to_a_bin() -> None:
    e, q = normal(5000, 3), normal(5000, 3, seed=1)
    sums = QuantizationSums()
    sums.add(e, q)
    for found, exact in zip(sums.result()[-3:], statistics(e, q)[-3:], strict=True):
        assert found == pytest.approx(exact, rel=3e-3)  # a bin, and how thick scales lie
    alike = QuantizationSums()
    alike.add(e, e.clone())
    assert alike.result()[-3:] == (1.0, 1.0, 1.0)


def test_scales_beyond_the_histogram_count_at_its_ends() -> None:
    sums = QuantizationSums()
    sums.add(torch.tensor([[1e-20, 0.0], [1e20, 0]]), torch.tensor([[1e20, 0.0], [1e-20, 0]]))
    assert sums.result()[-3:] == (2.0**-32, 2.0**-32, 2.0**32)


def test_sums_of_nothing_are_not_defined() -> None:
    assert all(math.isnan(value) for value in QuantizationSums().result())


def test_sums_are_those_of_one_width() -> None:
    sums = QuantizationSums()
    sums.add(normal(3, 4), normal(3, 4))
    with pytest.raises(InputError) as error:
        sums.add(normal(3, 5), normal(3, 5))
    assert str(error.value) == "vectors of one set have one width; got 5 after 4 dimensions"

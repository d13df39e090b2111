"""Fréchet distances and Inception scores that can be known without a network, and their sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vqtok.errors import ConfigError, InputError, MismatchError
from vqtok.metrics.frechet import Moments, Predictions, Score, frechet_distance, inception_score


def vectors(n: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.rand(n, dim, generator=generator, dtype=torch.float64) @ mixed


def moments(*batches: Tensor) -> Moments:
    found = Moments(batches[0].shape[1])
    for batch in batches:
        found.add(batch)
    return found


def known(mean: Tensor, covariance: Tensor, count: int = 10_000) -> Moments:
    """The sums of a set that has just these moments."""
    n = torch.tensor(count, dtype=torch.float64)
    outer = covariance * (n - 1) + n * mean.outer(mean)
    return Moments.from_tensors(n, n * mean, outer)


# --- moments --------------------------------------------------------------------------------------


def test_moments_are_numpys() -> None:
    x = vectors(40, 5).float()
    found = moments(x)
    np.testing.assert_allclose(found.mean(), x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), np.cov(x.double().numpy().T), rtol=1e-10)
    assert {t.dtype for t in found.tensors()} == {torch.float64}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_batches_and_ranks_add_up(sizes: list[int]) -> None:
    x = vectors(sum(sizes), 3)
    each = [moments(part) for part in x.split(sizes)]
    ranks = [Moments.from_tensors(*part.tensors()) for part in each]
    merged = sum(ranks[1:], ranks[0])
    reduced = Moments.from_tensors(
        *(torch.stack(parts).sum(0) for parts in zip(*(r.tensors() for r in ranks), strict=True))
    )
    for found in (moments(*x.split(sizes)), merged, reduced):
        for a, b in zip(found.tensors(), moments(x).tensors(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_adding_leaves_both_as_they_were() -> None:
    a, b = moments(vectors(9, 2)), moments(vectors(9, 2, seed=1))
    before = [t.clone() for t in (*a.tensors(), *b.tensors())]
    _ = a + b
    assert all(map(torch.equal, before, (*a.tensors(), *b.tensors())))


def test_digits_are_kept_in_long_sums() -> None:
    """In float32 the covariance of these would be noise."""
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)) + 300
    found = moments(*x.split(100))
    np.testing.assert_allclose(found.covariance(), np.cov(x.double().numpy().T), rtol=1e-7)


@pytest.mark.parametrize(("count", "deficient"), [(4, True), (5, True), (6, False)])
def test_too_few_vectors_are_told(count: int, deficient: bool) -> None:
    found = moments(vectors(count, 5))
    assert found.rank_deficient is deficient
    assert (torch.linalg.matrix_rank(found.covariance()) < 5).item() is deficient
    assert math.isfinite(frechet_distance(found, moments(vectors(9, 5, seed=1))))


# --- the distance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [20, 400])
def test_a_set_is_at_no_distance_from_itself(count: int) -> None:
    a = moments(vectors(count, 60))
    assert frechet_distance(a, a) < 1e-10
    assert frechet_distance(a, moments(vectors(count, 60).flip(0))) < 1e-10


def test_a_shift_counts_by_its_square() -> None:
    x, shift = vectors(300, 8), torch.arange(8.0, dtype=torch.float64)
    distance = frechet_distance(moments(x), moments(x + shift))
    assert distance == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_covariances_with_common_axes() -> None:
    axes, _ = torch.linalg.qr(vectors(6, 6))
    a, b = (torch.tensor(v, dtype=torch.float64) for v in ([1, 2, 3, 4, 5, 6], [9, 0, 1, 4, 2, 7]))
    mean = torch.zeros(6, dtype=torch.float64)
    one, other = (known(mean, axes @ v.diag() @ axes.T) for v in (a, b))
    wanted = float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-9)


def test_any_covariances() -> None:
    """tr (AB)^½ by the eigenvalues of AB, which is not symmetric."""
    x, y = vectors(200, 12), vectors(300, 12, seed=1)
    a, b = (np.cov(t.numpy().T) for t in (x, y))
    shared = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    apart = np.square(x.numpy().mean(0) - y.numpy().mean(0)).sum()
    wanted = apart + np.trace(a) + np.trace(b) - 2 * shared
    for distance in (
        frechet_distance(moments(x), moments(y)),
        frechet_distance(moments(y), moments(x)),
    ):
        assert distance == pytest.approx(wanted, rel=1e-9)


def test_few_vectors() -> None:
    """tr (AB)^½ by the singular values of the centred vectors' products, without covariances."""
    x, y = vectors(9, 50), vectors(12, 50, seed=1)
    p, q = ((t - t.mean(0)) / math.sqrt(len(t) - 1) for t in (x, y))
    apart = (x.mean(0) - y.mean(0)).square().sum()
    shared = torch.linalg.svdvals(p @ q.T).sum()
    wanted = float(apart + p.square().sum() + q.square().sum() - 2 * shared)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(wanted, rel=1e-9)


def test_rounding_far_from_zero_is_no_distance() -> None:
    x = vectors(50, 30) + 1000
    assert frechet_distance(moments(x), moments(x[:20], x[20:])) < 1e-6


# --- the score ------------------------------------------------------------------------------------


def predictions(logits: Tensor, splits: int = 1, numbers: Tensor | None = None) -> Predictions:
    found = Predictions(logits.shape[1], splits=splits)
    found.add(logits, numbers)
    return found


def test_the_same_answer_to_everything_scores_one() -> None:
    logits = torch.randn(1, 10, generator=torch.Generator().manual_seed(0)).repeat(20, 1)
    assert inception_score(predictions(logits)).mean == pytest.approx(1, abs=1e-12)


def test_k_certain_answers_score_k() -> None:
    logits = 1000 * torch.eye(7).repeat(3, 1)
    score = inception_score(predictions(logits))
    assert score.mean == pytest.approx(7, rel=1e-12)
    assert score.deviation == 0


def by_hand(logits: Tensor, splits: int) -> Score:
    """The definition, part by part."""
    scores = []
    for part in range(splits):
        p = logits[part::splits].double().softmax(1)
        scores.append((p * (p / p.mean(0)).log()).sum(1).mean().exp().item())
    return Score(float(np.mean(scores)), float(np.std(scores)))


@given(st.integers(1, 10), st.permutations(range(40)))
def test_splits_in_any_order(splits: int, order: list[int]) -> None:
    logits = 3 * torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    numbers = torch.tensor(order)
    first, second = (
        predictions(logits[part], splits, part) for part in (numbers[:13], numbers[13:])
    )
    for found in (first + second, Predictions.from_tensors(*(first + second).tensors())):
        assert inception_score(found) == pytest.approx(by_hand(logits, splits), abs=1e-12)


# --- what they refuse -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.ones(2, 4), "vectors to add up are floats (N, 3); got float32 (2, 4)"),
        (torch.ones(3), "vectors to add up are floats (N, 3); got float32 (3,)"),
        (
            torch.ones(2, 3, dtype=torch.int64),
            "vectors to add up are floats (N, 3); got int64 (2, 3)",
        ),
        (
            torch.tensor([[0, torch.inf, 1]]),
            "vectors to add up are finite; got some NaN or infinity",
        ),
    ],
)
def test_what_is_no_vector(rows: Tensor, message: str) -> None:
    for sums in (Moments(3), Predictions(3)):
        with pytest.raises(InputError) as error:
            sums.add(rows)
        assert str(error.value) == message


def test_too_little_for_a_figure() -> None:
    with pytest.raises(InputError) as error:
        frechet_distance(moments(vectors(1, 3)), moments(vectors(9, 3)))
    assert str(error.value) == "a covariance needs two vectors or more; got 1"
    with pytest.raises(InputError) as error:
        inception_score(predictions(torch.ones(2, 3), 3, torch.arange(2)))
    assert str(error.value) == "an Inception score over 3 splits needs a picture in each"


def test_sums_that_do_not_go_together() -> None:
    a, b = moments(vectors(9, 3)), moments(vectors(9, 4))
    for together in (lambda: a + b, lambda: frechet_distance(a, b)):
        with pytest.raises(MismatchError) as error:
            together()
        assert str(error.value) == "sums that go together have one shape; got 3 and 4"
    with pytest.raises(MismatchError) as error:
        _ = Predictions(3) + Predictions(3, splits=2)
    assert str(error.value) == "sums that go together have one shape; got (1, 3) and (2, 3)"


def test_splits_need_numbers() -> None:
    with pytest.raises(InputError) as error:
        predictions(torch.ones(2, 3), 10)
    assert str(error.value) == "an Inception score over 10 splits needs the pictures' numbers"
    with pytest.raises(InputError) as error:
        predictions(torch.ones(2, 3), 10, torch.arange(3))
    assert str(error.value) == "2 predictions need as many whole numbers; got int64 (3,)"
    with pytest.raises(ConfigError) as error:
        Predictions(3, splits=0)
    assert str(error.value) == "an Inception score has 1 split or more; got 0"

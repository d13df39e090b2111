from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.training.schedule import (
    annealed,
    discriminator_learns,
    discriminator_weight,
    learning_rate,
)
from vqtok.training.settings import Anneal, Discriminator, Optimizer


def test_a_constant_rate_stays() -> None:
    rates = {learning_rate(Optimizer(lr=3e-4), step, 100) for step in range(100)}
    assert rates == {3e-4}


def test_the_rate_rises_to_its_height_at_the_last_step_of_the_warm_up() -> None:
    optimizer = Optimizer(lr=1.0, warm_up=4)
    assert [learning_rate(optimizer, step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_a_cosine_ends_at_its_share() -> None:
    """Half of the peak at 50,000 steps after 3,000 of warm-up: the paper's settings 1 to 4."""
    paper = Optimizer(lr=1e-4, warm_up=3000, schedule="cosine", decay_steps=50_000, end=0.5)
    assert learning_rate(paper, 3000, 15_625) == pytest.approx(1e-4)
    assert learning_rate(paper, 26_500, 15_625) == pytest.approx(0.75e-4)
    assert learning_rate(paper, 50_000, 15_625) == pytest.approx(0.5e-4)
    assert learning_rate(paper, 60_000, 15_625) == pytest.approx(0.5e-4)


@given(st.sampled_from(["constant", "cosine", "linear"]), st.integers(0, 60), st.integers(1, 100))
def test_a_rate_is_never_above_lr_nor_below_zero(schedule: str, warm_up: int, steps: int) -> None:
    optimizer = Optimizer(lr=0.1, warm_up=warm_up, schedule=schedule)  # type: ignore[arg-type]
    assert all(0 <= learning_rate(optimizer, step, steps) <= 0.1 for step in range(steps + 5))


def test_a_discriminator_learns_before_it_counts() -> None:
    settings = Discriminator(weight=0.8, start=10, warm_up=4, ramp=2)
    assert [step for step in range(20) if not discriminator_learns(settings, step)] == list(
        range(6)
    )
    weights = [discriminator_weight(settings, step) for step in range(9, 14)]
    assert weights == [0.0, 0.4, 0.8, 0.8, 0.8]


def test_annealing_follows_half_a_cosine() -> None:
    """Gumbel's temperature as the paper falls: from 1 to 1/16."""
    anneal = Anneal(start=1.0, end=1 / 16, steps=100)
    assert annealed(anneal, 0) == 1.0
    assert annealed(anneal, 50) == pytest.approx((1 + 1 / 16) / 2)
    assert annealed(anneal, 100) == annealed(anneal, 1000) == pytest.approx(1 / 16)
    quarter = 1 / 16 + (1 - 1 / 16) * (1 + math.cos(math.pi / 4)) / 2
    assert annealed(anneal, 25) == pytest.approx(quarter)

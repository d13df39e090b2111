"""The order of training samples: what the number of processes and a resume may not change."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import ConfigError
from vqtok.training.data.stream import Draws, Shares, Stream

seeds = st.integers(-(2**63), 2**63)


@given(st.integers(1, 50), seeds, st.integers(0, 1000))
def test_each_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    stream = Stream(size, seed)
    entries = [stream[position] for position in range(epoch * size, (epoch + 1) * size)]
    assert sorted(entries) == list(range(size))


def test_seeds_and_epochs_give_other_orders() -> None:
    orders = {
        tuple(Stream(20, seed)[epoch * 20 + place] for place in range(20))
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(orders) == 25


def test_the_order_is_the_same_everywhere() -> None:
    assert [Stream(10, 0)[position] for position in range(20)] == GOLDEN_ORDER
    assert [Draws(0, position).below(1000, 1) for position in range(6)] == GOLDEN_DRAWS


def test_every_place_is_equally_likely() -> None:
    size, epochs = 6, 6000
    stream = Stream(size, 3)
    seen = np.zeros((size, size))
    for position in range(size * epochs):
        seen[position % size, stream[position]] += 1
    expected = epochs / size
    # 25 degrees of freedom: a fair shuffle exceeds 60 in one of 10,000 cases.
    assert ((seen - expected) ** 2 / expected).sum() < 60


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 50),
)
def test_ranks_share_a_micro_batch_in_order(
    part: int, world: int, accumulate: int, number: int
) -> None:
    batch_size = part * world * accumulate
    alone = Shares.of(batch_size, accumulate, 0, 1)
    ranks = [Shares.of(batch_size, accumulate, rank, world) for rank in range(world)]
    joint = [position for rank in ranks for position in rank.positions(number)]
    assert joint == list(alone.positions(number))
    assert {len(rank.positions(number)) for rank in ranks} == {part}


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 20))
def test_steps_take_the_stream_without_gaps(part: int, accumulate: int, steps: int) -> None:
    shares = Shares.of(part * accumulate, accumulate, 0, 1)
    numbers = range(steps * accumulate)
    taken = [position for number in numbers for position in shares.positions(number)]
    assert taken == list(range(steps * part * accumulate))


@pytest.mark.parametrize(("batch_size", "accumulate", "world"), [(6, 4, 1), (6, 1, 4), (8, 2, 8)])
def test_uneven_shares_are_refused(batch_size: int, accumulate: int, world: int) -> None:
    with pytest.raises(ConfigError) as error:
        Shares.of(batch_size, accumulate, 0, world)
    assert str(error.value) == (
        f"batch_size={batch_size} cannot be shared out evenly by accumulate={accumulate} and "
        f"{world} processes; take a multiple of {accumulate * world}"
    )


@given(seeds, st.integers(0, 2**40), st.integers(1, 2**31), st.integers(0, 3))
def test_draws_lie_below_and_come_again(seed: int, position: int, n: int, purpose: int) -> None:
    drawn = Draws(seed, position).below(n, purpose)
    assert 0 <= drawn < n
    assert Draws(seed, position).below(n, purpose) == drawn


def test_draws_are_even_and_independent() -> None:
    pairs = Counter(
        (Draws(1, position).below(3, 0), Draws(1, position).below(3, 1)) for position in range(9000)
    )
    # 8 degrees of freedom: fair draws exceed 32 in one of 10,000 cases.
    assert sum((count - 1000) ** 2 / 1000 for count in pairs.values()) < 32
    assert len(pairs) == 9


GOLDEN_ORDER = [0, 1, 9, 4, 2, 3, 6, 8, 7, 5, 2, 1, 9, 5, 6, 3, 4, 8, 0, 7]
GOLDEN_DRAWS = [94, 155, 197, 981, 583, 883]

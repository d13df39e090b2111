"""What goes through the model next."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vqtok.serve.engine import Item
from vqtok.serve.gather import STEADY, Gather, Waiting
from vqtok.serve.line import Question
from vqtok.serve.slab import Op, Slab

SLAB = Slab([(1, 64)])


def waiting(sent: float, op: Op = Op.ENCODE, alone: int = 0, **parts: Any) -> Waiting:
    parts = parts or {"pixels": np.zeros((4, 4, 3), np.uint8)}
    question = Question(int(sent), 1, 1, 0, alone, sent, 1e9)
    return Waiting(0, question, SLAB.slot(0), op, Item(parts, (4, 4)))


def taken(gather: Gather) -> list[list[float]]:
    """The batches until nothing waits, by when their questions were sent."""
    found = []
    while len(gather):
        _, batch = gather.take()
        found.append([one.question.sent for one in batch])
    return found


def gathered(max_batch: int, *these: Waiting) -> Gather:
    gather = Gather(lambda one: max_batch)
    for one in these:
        gather.add(one)
    return gather


def test_nothing_waits() -> None:
    assert gathered(4).take() == (None, [])


def test_the_oldest_and_its_like_go_first() -> None:
    small = np.zeros((2, 2, 3), np.uint8)
    gather = gathered(
        4, waiting(1), waiting(2, pixels=small), waiting(3), waiting(4, pixels=small), waiting(5)
    )
    assert taken(gather) == [[1, 3, 5], [2, 4]]


def test_a_batch_is_no_longer_than_may_be() -> None:
    assert taken(gathered(2, *map(waiting, range(5)))) == [[0, 1], [2, 3], [4]]


def test_what_may_not_share_a_batch() -> None:
    codes = np.zeros((2, 2), np.uint16)
    scales = np.array([[1, 1], [2, 2]], np.int32)
    apart = [
        waiting(1),
        waiting(2, Op.LATENTS),
        waiting(3, Op.DECODE, codes=codes),
        waiting(4, Op.DECODE, codes=codes.astype(np.uint32)),
        waiting(5, Op.DECODE, codes=codes, scales=scales),
        waiting(6, Op.DECODE, codes=codes, scales=scales * 2),
        waiting(7, alone=1),
        waiting(8, alone=1),
    ]
    assert len({one.key for one in apart}) == len(apart)
    assert taken(gathered(4, *apart)) == [[one.question.sent] for one in apart]


def test_other_codes_of_the_same_scales_may_share_one() -> None:
    scales = np.array([[1, 1], [2, 2]], np.int32)
    one = waiting(1, Op.DECODE, codes=np.zeros(5, np.uint16), scales=scales)
    two = waiting(2, Op.DECODE, codes=np.ones(5, np.uint16), scales=scales.copy())
    assert taken(gathered(4, one, two)) == [[1, 2]]


def test_a_lower_cap_holds_for_its_kind_alone() -> None:
    gather = gathered(4, *map(waiting, range(1, 6)))
    gather.lower(waiting(0).key, 2)
    gather.lower(waiting(0).key, 3)
    for sent in range(6, 10):
        gather.add(waiting(sent, Op.LATENTS))
    assert taken(gather) == [[1, 2], [3, 4], [5], [6, 7, 8, 9]]


def test_a_lower_cap_rises_again_after_enough_batches_that_went_well() -> None:
    key = waiting(0).key
    gather = gathered(8, *map(waiting, range(200)))
    gather.lower(key, 2)
    lengths = []
    while len(gather):
        _, batch = gather.take()
        lengths.append(len(batch))
        gather.went_well(key, len(batch))
        gather.went_well(key, 1)  # a short one says nothing
    assert lengths == [2] * STEADY + [4] * STEADY + [8] * 13
    assert gather._caps == {}


def test_how_many_go_together_is_asked_of_the_first() -> None:
    gather = Gather(lambda one: int(one.question.sent) + 1)
    for sent in range(6):
        gather.add(waiting(sent))
    assert taken(gather) == [[0], [1, 2], [3, 4, 5]]


@given(st.lists(st.integers(0, 4)), st.integers(1, 5))
def test_everything_goes_once_and_in_order(kinds: list[int], max_batch: int) -> None:
    these = [
        waiting(sent, pixels=np.zeros((kind + 1, 1, 3), np.uint8))
        for sent, kind in enumerate(kinds)
    ]
    gather = gathered(max_batch, *these)
    assert len(gather) == len(these)
    batches = taken(gather)
    assert Counter(sent for batch in batches for sent in batch) == Counter(range(len(these)))
    for batch in batches:
        assert len({kinds[int(sent)] for sent in batch}) == 1
        assert batch == sorted(batch)
    heads = [batch[0] for batch in batches]
    assert heads == sorted(heads)

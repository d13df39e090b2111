"""The use of a codebook, by hand."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vqtok.errors import CodesError, InputError
from vqtok.metrics.usage import Usage, UsageSums, code_usage, count_codes, perplexity, share_used


def one_code_a_picture(n: int) -> Tensor:
    """Picture i holds code i alone, on a grid of 2 x 2."""
    return torch.arange(n)[:, None, None].expand(n, 2, 2)


def test_counts() -> None:
    codes = torch.tensor([[[0, 3], [3, 1]]])
    assert count_codes(codes, 6).tolist() == [1, 1, 0, 2, 0, 0]
    parts = sum(count_codes(part, 6) for part in codes[0])
    assert torch.equal(torch.as_tensor(parts), count_codes(codes, 6))
    assert count_codes(codes.to(torch.uint8), 6).tolist() == [1, 1, 0, 2, 0, 0]


def test_share_and_perplexity() -> None:
    assert share_used(torch.tensor([1, 0, 5, 0])) == 0.5
    assert perplexity(torch.tensor([7, 0, 0])) == pytest.approx(1)
    assert perplexity(torch.tensor([4, 4, 0, 4, 4])) == pytest.approx(4)
    share = np.array([0.5, 0.3, 0.2])
    assert perplexity(torch.tensor([5, 3, 0, 2])) == pytest.approx(
        math.exp(-(share * np.log(share)).sum())
    )


def test_over_the_whole_set_and_by_batches_of_256_pictures() -> None:
    use = code_usage(one_code_a_picture(512), 1024)
    assert use == Usage(0.5, 0.25, 0.5, pytest.approx(512))


def test_an_incomplete_last_batch_is_left_out() -> None:
    assert code_usage(one_code_a_picture(300), 1024).per_batch == 256 / 1024
    assert code_usage(one_code_a_picture(100), 1024).per_batch == 100 / 1024


def test_the_window_is_the_last_65536_tokens() -> None:
    codes = torch.zeros(3, 65_536, dtype=torch.int64)
    codes[0] = 1
    codes[1, -1] = 2
    codes[2, 0] = 3
    use = code_usage(codes, 4)
    assert (use.whole, use.window) == (1.0, 0.5)
    codes[2, 1:] = torch.arange(65_535) % 2
    assert code_usage(codes, 4).window == 0.75


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "usage is that of one code at least; got codes (0,)"),
        ([0, 4, 9], "codes of this tokenizer lie in [0, 9); got some from 0 to 9"),
        ([-1, 4], "codes of this tokenizer lie in [0, 9); got some from -1 to 4"),
    ],
)
def test_codes_that_cannot_be(codes: list[int], message: str) -> None:
    for function in (count_codes, code_usage):
        with pytest.raises(CodesError) as error:
            function(torch.tensor(codes, dtype=torch.int64), 9)
        assert str(error.value) == message


def summed(codes: Tensor, places: list[int], codebook_size: int, parts: int = 1) -> UsageSums:
    """Sums over pictures in the order of `places`, from so many processes."""
    each = [UsageSums(codebook_size) for _ in range(parts)]
    for turn, place in enumerate(places):
        each[turn % parts].add(codes[place : place + 1], [place])
    for other in each[1:]:
        each[0].merge(other)
    return each[0]


@given(st.permutations(range(9)), st.integers(1, 4))
def test_neither_order_nor_processes_count(order: list[int], parts: int) -> None:
    codes = torch.randint(0, 50, (9, 3, 3), generator=torch.Generator().manual_seed(0))
    with mock.patch.multiple("vqtok.metrics.usage", BATCH=4, WINDOW=31):
        assert summed(codes, order, 50, parts).result() == code_usage(codes, 50)


def test_batches_of_several_processes_are_those_of_one() -> None:
    codes = one_code_a_picture(600)
    order = [*range(0, 600, 2), *range(1, 600, 2)]
    assert summed(codes, order, 1024, 2).result() == code_usage(codes, 1024)
    assert code_usage(codes, 1024).per_batch == 256 / 1024


def test_the_window_holds_whole_pictures_at_most_once_more() -> None:
    sums = UsageSums(4)
    for place in range(5):
        sums.add(torch.zeros(1, 40_000, dtype=torch.int64), [place])
    assert sorted(sums.last) == [3, 4]


def test_a_picture_counts_once() -> None:
    sums, other = UsageSums(4), UsageSums(4)
    for one in (sums, other):
        one.add(torch.zeros(1, 2, dtype=torch.int64), [300])
    with pytest.raises(InputError) as error:
        sums.merge(other)
    assert str(error.value) == "the picture at place 300 counts once; it came twice"

"""The use of a codebook, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vqtok.errors import CodesError
from vqtok.metrics.usage import Usage, code_usage, count_codes, perplexity, share_used


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

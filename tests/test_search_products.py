"""The code with the highest inner product is that of float64, as the nearest one is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vqtok import search
from vqtok.errors import InputError
from vqtok.search import highest


def brute(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Every product in float64; argmax names the first of equals."""
    return (vectors.double()[:, None] * codebook.double()).sum(2).argmax(1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """With exact ties in them: doubles, whole numbers, vectors of nothing."""
    n, k = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    d = draw(st.sampled_from([1, 2, 3, 8, 33]))
    seed = draw(st.integers(0, 2**16))
    vectors, codebook = normal(n, d, seed=seed + 1), normal(k, d, seed=seed)
    if draw(st.booleans()):
        vectors, codebook = vectors.round(), codebook.round()
    if draw(st.booleans()):
        pick = torch.Generator().manual_seed(seed + 2)
        codebook = codebook[torch.randint((k + 1) // 2, (k,), generator=pick)]
    return vectors * 10 ** draw(st.floats(-3, 3)), codebook * 10 ** draw(st.floats(-3, 3))


@settings(max_examples=120)
@given(problems())
def test_it_is_the_answer_of_float64(problem: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(highest(*problem), brute(*problem))


def test_near_ties() -> None:
    """Codes a rounding apart, where float32 products cannot tell."""
    codebook = (
        1 + torch.arange(40)[:, None] % 7 * torch.finfo(torch.float32).eps + torch.zeros(40, 64)
    )
    vectors = normal(30, 64)
    assert torch.equal(highest(vectors, codebook), brute(vectors, codebook))


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.floats(-20, 20))
def test_the_length_of_a_vector_does_not_matter(seed: int, power: float) -> None:
    vectors, codebook = normal(20, 8, seed=seed), normal(50, 8, seed=seed + 1)
    assert torch.equal(highest(vectors * 2 ** round(power), codebook), highest(vectors, codebook))


def test_it_is_not_the_nearest() -> None:
    vectors, codebook = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [9.0, 9.0]])
    assert highest(vectors, codebook).tolist() == [1]


def test_any_block_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, codebook = normal(100, 5).round(), normal(64, 5, seed=1).round()
    ids = highest(vectors, codebook)
    assert torch.equal(torch.cat([highest(part, codebook) for part in vectors.split(7)]), ids)
    monkeypatch.setattr(search, "CPU_BLOCK", 200)
    monkeypatch.setattr(search, "EXACT_BLOCK", 60)
    assert torch.equal(highest(vectors, codebook), ids)


def test_nothing_else_passes() -> None:
    vectors, codebook = normal(4, 3), normal(5, 3)
    vectors[1] = torch.nan
    assert highest(vectors, codebook)[1] == 0
    assert highest(vectors[:0], codebook).shape == (0,)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(highest(vectors, codebook), brute(vectors.nan_to_num(), codebook))
    with FakeTensorMode():
        made = highest(torch.empty(4, 3), torch.empty(5, 3))
        assert (made.shape, made.dtype) == ((4,), torch.int64)
    with pytest.raises(InputError) as error:
        highest(vectors, normal(5, 4))
    assert str(error.value) == (
        "vectors for a codebook of 4 dimensions have the shape (N, 4); got (4, 3)"
    )

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import vqtok.training.losses.entropy as module
from vqtok.training.losses.entropy import entropy

K = 7


def vectors(count: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """(count, 3), (K, 3): shared enough by temperatures around 1."""
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(count, 3, generator=generator, dtype=dtype)
    return e, torch.randn(K, 3, generator=generator, dtype=dtype)


def by_loops(e: np.ndarray, codebook: np.ndarray, temperature: float) -> float:
    def of(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    shares = []
    for vector in e:
        scores = np.array([-((vector - code) ** 2).sum() / temperature for code in codebook])
        odds = np.exp(scores - scores.max())
        shares.append(odds / odds.sum())
    return float(np.mean([of(p) for p in shares]) - of(np.mean(shares, 0)))


@pytest.mark.parametrize("temperature", [0.01, 0.5, 3.0])
def test_it_is_what_loops_make_it(temperature: float) -> None:
    e, codebook = vectors()
    found = entropy(e, codebook, temperature)
    assert found.shape == ()
    assert found.item() == pytest.approx(by_loops(e.numpy(), codebook.numpy(), temperature))


def test_known_values() -> None:
    codes = 10 * torch.eye(4)
    sure_of_all = entropy(codes, codes, 0.01)
    sure_of_one = entropy(codes[:1].expand(4, 4), codes, 0.01)
    sure_of_none = entropy(torch.zeros(4, 4), codes, 0.01)
    assert sure_of_all.item() == pytest.approx(-math.log(4))
    assert sure_of_one.item() == pytest.approx(0, abs=1e-6)
    assert sure_of_none.item() == pytest.approx(0, abs=1e-6)


def slopes(e: Tensor, codebook: Tensor, temperature: float, half: bool = False) -> list[Tensor]:
    """The value and both gradients. As everywhere, autocast is off when these are made."""
    inputs = e.clone().requires_grad_(), codebook.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        value = entropy(*inputs, temperature)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def test_the_gradient_is_that_of_the_value() -> None:
    e, codebook = vectors(5)
    inputs = e.requires_grad_(), codebook.requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: entropy(*given, 0.7), inputs)


@pytest.mark.parametrize("block", [1, K, 3 * K, 5 * K + 1])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    expected = slopes(*vectors(), 0.5)
    monkeypatch.setattr(module, "BLOCK", block)
    for found, value in zip(slopes(*vectors(), 0.5), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-12)


def test_no_more_is_held_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at once nor until the backward pass, where each is made again."""
    e, codebook = vectors(200)
    rows: list[int] = []
    kept: list[int] = []
    part = module._part

    def noted(some: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        rows.append(len(some))
        return part(some, *others)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    monkeypatch.setattr(module, "BLOCK", 30 * K + 1)
    monkeypatch.setattr(module, "_part", noted)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = entropy(e.requires_grad_(), codebook, 0.5)
    assert rows == [30] * 6 + [20]
    assert sum(kept) < len(e) * K  # a distance for each pair
    value.backward()
    assert rows[7:] == rows[6::-1]


def test_each_process_has_the_gradient_of_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of two processes, averaged as DDP does, are those of one."""
    e, codebook = vectors()
    whole = slopes(e, codebook, 0.5)
    everybody = torch.softmax(-torch.cdist(e, codebook).square() / 0.5, 1).mean(0)
    monkeypatch.setattr(module, "mean_over_ranks", lambda own: everybody)
    first, second = (slopes(part, codebook, 0.5) for part in e.chunk(2))
    torch.testing.assert_close((first[0] + second[0]) / 2, whole[0])
    torch.testing.assert_close(torch.cat([first[1], second[1]]) / 2, whole[1])
    torch.testing.assert_close((first[2] + second[2]) / 2, whole[2])


def test_codes_out_of_reach_do_no_harm() -> None:
    """Their shares are zero in float32, where the entropy's slope would be infinite."""
    e, codebook = vectors(dtype=torch.float32)
    found = slopes(e, torch.cat([codebook, torch.full((2, 3), 1e4)]), 0.01)
    assert all(torch.isfinite(each).all() for each in found)


def test_codes_may_lie_far_from_the_origin() -> None:
    """Where float32 has no digits for differences of codes but in their distances."""
    e, codebook = ((1000 + each).float() for each in vectors())
    found = slopes(e, codebook, 0.1)
    for a, b in zip(found, slopes(e.double(), codebook.double(), 0.1), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_autocast_changes_nothing() -> None:
    e, codebook = vectors(dtype=torch.float32)
    expected = slopes(e, codebook, 0.01)
    for a, b in zip(slopes(e, codebook, 0.01, half=True), expected, strict=True):
        assert torch.equal(a, b)


def test_vectors_of_half_precision_are_compared_in_float32() -> None:
    e, codebook = (each.bfloat16() for each in vectors())
    found = entropy(e, codebook, 0.5)
    assert found.dtype == torch.float32
    assert torch.equal(found, entropy(e.float(), codebook.float(), 0.5))


class Products(TorchFunctionMode):
    """Notes how finely torch multiplies whenever it does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("matmul", "__matmul__", "mm"):
            self.found.append(torch.get_float32_matmul_precision())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def coarse() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("coarse")
def test_products_are_not_rounded_to_tf32() -> None:
    with Products() as products:
        entropy(*vectors(dtype=torch.float32), 0.01)
    assert products.found == ["highest"]

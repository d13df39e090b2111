from __future__ import annotations

import pytest
import torch

from vqtok.training.losses.adaptive import adaptive_weight


def test_the_ratio_of_norms() -> None:
    weight = adaptive_weight(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    assert weight.shape == ()
    assert weight.item() == pytest.approx(5 / 2.0001, rel=1e-6)


def test_of_a_tensor_of_any_shape() -> None:
    gradient = torch.ones(2, 3, 4, 4)
    assert adaptive_weight(gradient, gradient / 2).item() == pytest.approx(2, rel=1e-3)


def test_its_bounds() -> None:
    some, none = torch.ones(4), torch.zeros(4)
    assert adaptive_weight(none, some).item() == 0
    assert adaptive_weight(some * 1e-3, none).item() == pytest.approx(20)
    assert adaptive_weight(some, none).item() == 1e4
    assert adaptive_weight(none, none).item() == 0


def test_no_gradient_passes() -> None:
    gradient = torch.ones(4, requires_grad=True)
    assert not adaptive_weight(gradient, gradient * 2).requires_grad

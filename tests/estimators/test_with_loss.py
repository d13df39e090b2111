"""The two baselines that differentiate the loss themselves."""

from __future__ import annotations

import torch
from estimator_oracles import cubes, gradient, pair, some_gradient
from torch import Tensor

from vqtok.estimators import ESTIMATORS

E, Q = pair(3, 50.0)


def bowl(x: Tensor) -> Tensor:
    """Quadratic, with coordinates that depend on each other."""
    tilt = torch.tensor([[2.0, 1, 0], [1, 3, 1], [0, 1, 4]], dtype=x.dtype)
    return (x @ tilt * x).sum() + x.sum()


def slope(loss: object, at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(at), at)  # type: ignore[operator]
    return g


def through(name: str, loss: object) -> Tensor:
    """The gradient that reaches e when `loss` is propagated back, as in training."""
    return gradient(name, E, Q, slope(loss, Q), loss=loss)


def test_exact_is_the_gradient_at_e() -> None:
    assert torch.equal(through("exact", cubes), 3 * E**2)
    assert torch.equal(through("exact", bowl), slope(bowl, E))


def test_exact_takes_no_notice_of_what_comes_back() -> None:
    assert torch.equal(gradient("exact", E, Q, some_gradient(E), loss=cubes), 3 * E**2)


def test_hessian_is_exact_on_a_quadratic() -> None:
    torch.testing.assert_close(through("hessian", bowl), through("exact", bowl))


def test_hessian_on_a_cubic_is_the_first_order() -> None:
    torch.testing.assert_close(through("hessian", cubes), 3 * Q**2 + 6 * Q * (E - Q))


def test_hessian_on_a_linear_loss_is_straight_through() -> None:
    assert torch.equal(through("hessian", lambda x: (2 * x).sum()), torch.full_like(E, 2))
    decoder = torch.nn.Linear(3, 5, dtype=torch.float64)
    straight = decoder.weight.sum(0).expand_as(E)
    torch.testing.assert_close(through("hessian", lambda x: decoder(x).sum()), straight)


def test_the_decoder_gets_no_gradient_from_the_second_pass() -> None:
    decoder = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GELU()).double()
    for name in ("exact", "hessian"):
        z = ESTIMATORS[name](E, Q, loss=lambda x: decoder(x).square().sum())
        assert torch.equal(z, Q)
        assert [p.grad for p in decoder.parameters()] == [None, None]


def test_the_loss_may_be_taken_without_gradients_around() -> None:
    with torch.no_grad():
        assert torch.equal(ESTIMATORS["hessian"](E, Q, loss=cubes), Q)

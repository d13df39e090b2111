"""DiVeQ: a noisy step, of which the length alone is differentiated."""

from __future__ import annotations

import pytest
import torch
from estimator_oracles import pair, some_gradient
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.estimators import ESTIMATORS

diveq = ESTIMATORS["diveq"]
E, Q = pair(8, 50.0)


def seeded(seed: int) -> Tensor:
    return diveq(E, Q, generator=torch.Generator().manual_seed(seed))


def test_a_generator_decides_the_noise() -> None:
    assert torch.equal(seeded(1), seeded(1))
    assert not torch.equal(seeded(1), seeded(2))


def test_the_step_is_as_long_as_the_way_to_the_code() -> None:
    z = seeded(1)
    torch.testing.assert_close((z - E).norm(dim=1), (Q - E).norm(dim=1))
    assert 0 < (z - Q).norm() < 0.2 * (Q - E).norm()


def test_without_noise_it_is_the_code() -> None:
    torch.testing.assert_close(diveq(E, Q, noise=0.0), Q)


def test_its_gradients() -> None:
    e, q = E.clone().requires_grad_(), Q.clone().requires_grad_()
    g = some_gradient(e)
    z = diveq(e, q, generator=torch.Generator().manual_seed(3))
    z.backward(g)
    step = Q - E
    way = step / step.norm(dim=1, keepdim=True)
    direction = (z.detach() - E) / step.norm(dim=1, keepdim=True)
    moved = way * (direction * g).sum(1, keepdim=True)
    torch.testing.assert_close(e.grad, g - moved)
    torch.testing.assert_close(q.grad, moved)


def test_a_vector_on_its_code_stays_there() -> None:
    e, q = E.clone().requires_grad_(), E.clone().requires_grad_()
    z = diveq(e, q)
    z.backward(torch.ones_like(z))
    assert torch.equal(z, E)
    assert e.grad is not None and torch.equal(e.grad, torch.ones_like(E))
    assert q.grad is not None and torch.equal(q.grad, torch.zeros_like(E))


def test_noise_that_cannot_be() -> None:
    with pytest.raises(ConfigError) as error:
        diveq(E, Q, noise=-0.1)
    assert str(error.value) == "noise is a standard deviation and not negative; got -0.1"

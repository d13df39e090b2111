"""Adversarial losses against their formulas, and which way they pull."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vqtok.training.losses import GAN_LOSSES

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(0.5, 2, (2, 1, 3, 3)), RNG.normal(-0.5, 2, (2, 1, 3, 3))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.array([math.log1p(math.exp(v)) for v in x.flat])


DISCRIMINATOR = {
    "hinge": 0.5 * np.maximum(0, 1 - REAL).mean() + 0.5 * np.maximum(0, 1 + FAKE).mean(),
    "vanilla": 0.5 * softplus(-REAL).mean() + 0.5 * softplus(FAKE).mean(),
    "non_saturating": softplus(-REAL).mean() + softplus(FAKE).mean(),
}
GENERATOR = {
    "hinge": -FAKE.mean(),
    "vanilla": -FAKE.mean(),
    "non_saturating": softplus(-FAKE).mean(),
}
EACH = pytest.mark.parametrize("name", list(GAN_LOSSES))


@EACH
def test_the_formulas(name: str) -> None:
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    loss = GAN_LOSSES[name]
    assert loss.discriminator(real, fake).item() == pytest.approx(DISCRIMINATOR[name], rel=1e-12)
    assert loss.generator(fake).item() == pytest.approx(GENERATOR[name], rel=1e-12)


@EACH
def test_the_discriminator_lifts_pictures_and_lowers_the_rest(name: str) -> None:
    real, fake = (torch.zeros(2, 1, 3, 3, requires_grad=True) for _ in range(2))
    GAN_LOSSES[name].discriminator(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@EACH
@pytest.mark.parametrize("level", [-50.0, -3.0, 0.0, 3.0])
def test_the_generator_lifts_its_own(name: str, level: float) -> None:
    fake = torch.full((2, 1, 3, 3), level, requires_grad=True)
    GAN_LOSSES[name].generator(fake).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all()


def test_cross_entropy_has_logits_first_and_labels_second() -> None:
    """LlamaGen hands them over the other way round, which is another function."""
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
    entropy = F.binary_cross_entropy_with_logits
    loss = GAN_LOSSES["non_saturating"]
    right = entropy(real, ones) + entropy(fake, zeros)
    swapped = entropy(ones, real) + entropy(zeros, fake)
    torch.testing.assert_close(loss.discriminator(real, fake), right)
    assert not torch.isclose(right, swapped)
    torch.testing.assert_close(loss.generator(fake), entropy(fake, ones))
    assert not torch.isclose(loss.generator(fake), entropy(ones, fake))


def test_the_hinge_leaves_alone_what_is_beyond_its_margin() -> None:
    real = torch.tensor([1.5, 0.5], requires_grad=True)
    fake = torch.tensor([-1.5, -0.5], requires_grad=True)
    GAN_LOSSES["hinge"].discriminator(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [0, -0.25]
    assert fake.grad.tolist() == [0, 0.25]

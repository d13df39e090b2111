"""Pixel losses against their formulas, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vqtok.training.losses import PIXEL_LOSSES

RNG = np.random.default_rng(0)
REC = RNG.uniform(-1, 1, (2, 3, 4, 5))
X = RNG.uniform(-1, 1, (2, 3, 4, 5))


def value(name: str, rec: np.ndarray = REC, x: np.ndarray = X) -> float:
    return PIXEL_LOSSES[name](torch.from_numpy(rec), torch.from_numpy(x)).item()


def squeezed(pixel: float) -> float:
    """[-1, 1] -> [.1, .9], DALL-E's map of pixels with its epsilon."""
    return 0.8 * (pixel + 1) / 2 + 0.1


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def density(at: float, location: float, scale: float = 0.1) -> float:
    """Of a number in (0, 1) whose logit is Laplacean: the paper's formula."""
    distance = abs(logit(at) - location)
    return math.exp(-distance / scale) / (2 * scale * at * (1 - at))


def test_absolute_and_squared_errors() -> None:
    assert value("l1") == pytest.approx(np.abs(REC - X).mean(), rel=1e-12)
    assert value("l2") == pytest.approx(((REC - X) ** 2).mean(), rel=1e-12)


def test_logit_laplace_is_the_mean_of_minus_log_densities() -> None:
    each = [
        -math.log(density(squeezed(x), logit(squeezed(rec))))
        for rec, x in zip(REC.flat, X.flat, strict=True)
    ]
    assert value("logit_laplace") == pytest.approx(sum(each) / len(each), rel=1e-12)


@pytest.mark.parametrize("rec", [-3.0, -1.0, -0.3, 0.0, 0.8, 1.0, 3.0])
def test_what_logit_laplace_scores_by_is_a_density(rec: float) -> None:
    """Of squeezed pixels in (0, 1), wherever the location is; integrated over their logits."""
    logits = torch.linspace(-25, 25, 50_001, dtype=torch.float64)
    at = torch.sigmoid(logits)
    pixels = ((at - 0.1) / 0.4 - 1).view(-1, 1)
    scores = torch.vmap(PIXEL_LOSSES["logit_laplace"])(torch.full_like(pixels, rec), pixels)
    total = torch.trapezoid(torch.exp(-scores) * at * (1 - at), logits)
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_logit_laplace_goes_on_smoothly_beyond_the_pixels() -> None:
    rec = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    x = torch.zeros(2, dtype=torch.float64)
    for side in (-1e-9, 1e-9):
        near = (rec + side).requires_grad_()
        PIXEL_LOSSES["logit_laplace"](near, x).backward()
        # d/dp logit(.4 p + .5) = .4 / (.9 * .1) at either end; over 2 pixels and a scale of .1
        slope = 0.4 / 0.09 / 0.1 / 2
        assert near.grad is not None
        torch.testing.assert_close(near.grad, rec * slope, rtol=1e-6, atol=0)


def test_a_pixel_far_outside_is_called_back_as_loudly() -> None:
    rec = torch.tensor([-50.0, -1.25, 1.25, 50.0], dtype=torch.float64, requires_grad=True)
    PIXEL_LOSSES["logit_laplace"](rec, torch.zeros_like(rec)).backward()
    slope = 0.4 / 0.09 / 0.1 / 4
    assert rec.grad is not None
    torch.testing.assert_close(rec.grad, rec.detach().sign() * slope)

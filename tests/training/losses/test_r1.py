from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vqtok.training.discriminators import DISCRIMINATORS
from vqtok.training.losses.r1 import r1_penalty


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_linear_discriminator_pays_its_weights_squared() -> None:
    """And the weights are drawn by twice themselves: the second derivative."""
    w, x = pictures(3, 4, 4).requires_grad_(), pictures(5, 3, 4, 4).requires_grad_()
    penalty = r1_penalty((x * w).sum((1, 2, 3)), x)
    assert penalty.shape == ()
    torch.testing.assert_close(penalty, w.square().sum())
    (slope,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(slope, 2 * w)


def test_of_a_quadratic_form() -> None:
    """D(x) = ½ Σ a x² has the gradient a x."""
    x, a = pictures(4, 3, 5, 5).requires_grad_(), pictures(3, 5, 5)
    logits = (0.5 * a * x.square()).sum((1, 2, 3))
    expected = (a * x).square().sum((1, 2, 3)).mean()
    penalty = r1_penalty(logits, x)
    torch.testing.assert_close(penalty, expected)
    (slope,) = torch.autograd.grad(penalty, x)
    torch.testing.assert_close(slope, 2 * a.square() * x / 4)


def test_patches_of_a_picture_are_summed() -> None:
    x = pictures(2, 1, 4, 4).requires_grad_()
    logits = nn.functional.avg_pool2d(3 * x, 2)  # each pixel is in one patch, by 3/4
    assert r1_penalty(logits, x).item() == pytest.approx(16 * (3 / 4) ** 2)


def test_on_one_forward_of_pictures_and_reconstructions() -> None:
    """As the training step asks it: the same as of the pictures alone, weights' gradients too."""
    torch.manual_seed(0)
    network = DISCRIMINATORS["patchgan"](channels=8, layers=1)
    x, fake = pictures(2, 3, 12, 12), pictures(3, 3, 12, 12)[:2].flip(2)
    alone, joint = (x.clone().requires_grad_() for _ in range(2))
    one = r1_penalty(network(alone), alone)
    real, _ = network(torch.cat([joint, fake])).chunk(2)
    other = r1_penalty(real, joint)
    torch.testing.assert_close(one, other)
    weights = [p for p in network.parameters() if p.ndim > 1]
    for a, b in zip(*(torch.autograd.grad(v, weights) for v in (one, other)), strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b)


def test_of_clips_that_a_network_takes_frame_by_frame_it_is_the_mean_over_frames() -> None:
    torch.manual_seed(0)
    network = DISCRIMINATORS["patchgan"](channels=8, layers=1)
    clips = pictures(2, 3, 4, 12, 12)
    frames = clips.transpose(1, 2).flatten(0, 1).requires_grad_()
    clips.requires_grad_()
    torch.testing.assert_close(
        r1_penalty(network(clips), clips), r1_penalty(network(frames), frames)
    )


def test_a_batch_has_the_mean_of_its_halves() -> None:
    torch.manual_seed(0)
    network = DISCRIMINATORS["patchgan"](channels=8, layers=1)
    x = pictures(4, 3, 12, 12).requires_grad_()
    halves = [part.detach().requires_grad_() for part in x.chunk(2)]
    each = torch.stack([r1_penalty(network(part), part) for part in halves])
    torch.testing.assert_close(each.mean(), r1_penalty(network(x), x))


def test_under_autocast_it_is_finite_and_float32() -> None:
    torch.manual_seed(0)
    network = DISCRIMINATORS["patchgan"](channels=8, layers=1)
    x = pictures(2, 3, 12, 12).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(x)
    penalty = r1_penalty(logits.float(), x)
    penalty.backward()
    assert penalty.dtype == torch.float32
    exact = r1_penalty(network(x), x)
    assert penalty.item() == pytest.approx(exact.item(), rel=0.1)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_a_gradient_of_half_precision_is_squared_in_float32() -> None:
    x = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    penalty = r1_penalty((x * 1.01).sum(1), x)
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(3 * torch.tensor(1.01).bfloat16().item() ** 2, rel=1e-6)

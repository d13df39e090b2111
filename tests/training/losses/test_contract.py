"""What every loss of a registry promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vqtok.errors import UnknownNameError
from vqtok.training.losses import GAN_LOSSES, PIXEL_LOSSES

Loss = Callable[[Tensor, Tensor], Tensor]


def generator_side(name: str) -> Loss:
    return lambda fake, _: GAN_LOSSES[name].generator(fake)


LOSSES: dict[str, Loss] = {
    **{name: PIXEL_LOSSES[name] for name in PIXEL_LOSSES},
    **{f"{name}, discriminator": GAN_LOSSES[name].discriminator for name in GAN_LOSSES},
    **{f"{name}, generator": generator_side(name) for name in GAN_LOSSES},
}
EACH = pytest.mark.parametrize("name", LOSSES)
HALVES = [torch.bfloat16, torch.float16]


def pair(shape: tuple[int, ...] = (4, 3, 8, 8), seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1 for _ in range(2))
    return a.float(), b.float()


def value_and_gradient(loss: Loss, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a = a.detach().clone().requires_grad_()
    value = loss(a, b)
    (slope,) = torch.autograd.grad(value, a)
    return value.detach(), slope


def test_the_names() -> None:
    assert list(PIXEL_LOSSES) == ["l1", "l2", "logit_laplace"]
    assert list(GAN_LOSSES) == ["hinge", "non_saturating", "vanilla"]


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError) as error:
        PIXEL_LOSSES["l3"]
    assert str(error.value) == ("there is no pixel loss called 'l3'. Known: l1, l2, logit_laplace.")
    with pytest.raises(UnknownNameError) as error:
        GAN_LOSSES["hing"]
    assert str(error.value) == (
        "there is no GAN loss called 'hing'. Did you mean 'hinge'? "
        "Known: hinge, non_saturating, vanilla."
    )


@EACH
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_a_scalar_with_a_finite_gradient(name: str, scale: float) -> None:
    a, b = pair()
    value, slope = value_and_gradient(LOSSES[name], a * scale, b)
    assert value.shape == ()
    assert value.isfinite()
    assert slope.isfinite().all()


@EACH
def test_a_batch_has_the_mean_of_its_halves(name: str) -> None:
    """So that the mean of processes, and of their gradients, is that of the joint batch."""
    a, b = pair()
    whole, slope = value_and_gradient(LOSSES[name], a, b)
    parts = [
        value_and_gradient(LOSSES[name], *part) for part in zip(a.chunk(2), b.chunk(2), strict=True)
    ]
    torch.testing.assert_close(torch.stack([value for value, _ in parts]).mean(), whole)
    torch.testing.assert_close(torch.cat([part for _, part in parts]) / 2, slope)


@EACH
def test_a_mean_over_places_and_frames_too(name: str) -> None:
    a, b = pair((2, 3, 4, 6, 6))
    folded = [t.transpose(1, 2).flatten(0, 1) for t in (a, b)]
    torch.testing.assert_close(LOSSES[name](a, b), LOSSES[name](*folded))


@EACH
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_worked_out_in_float32(name: str, dtype: torch.dtype) -> None:
    a, b = (t.to(dtype) for t in pair())
    value, slope = value_and_gradient(LOSSES[name], a, b)
    wide, wide_slope = value_and_gradient(LOSSES[name], a.float(), b.float())
    assert value.dtype == torch.float32
    assert torch.equal(value, wide)
    assert slope.dtype == dtype
    torch.testing.assert_close(slope, wide_slope.to(dtype))


@EACH
def test_float64_stays(name: str) -> None:
    a, b = (t.double() for t in pair())
    assert LOSSES[name](a, b).dtype == torch.float64


@EACH
def test_autocast_changes_nothing(name: str) -> None:
    a, b = pair()
    plain = value_and_gradient(LOSSES[name], a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = value_and_gradient(LOSSES[name], a, b)
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])


@pytest.mark.parametrize("name", list(PIXEL_LOSSES))
def test_the_least_pixel_loss_is_that_of_the_picture(name: str) -> None:
    _, x = pair()
    least = PIXEL_LOSSES[name](x, x)
    for away in (-1.0, -0.01, 0.01, 1.0):
        assert PIXEL_LOSSES[name](x + away, x) > least


@pytest.mark.parametrize("name", list(PIXEL_LOSSES))
@pytest.mark.parametrize("at", [-9.0, -1.3, -0.4, 0.4, 1.3, 9.0])
def test_gradient_steps_lead_to_the_picture_from_anywhere(name: str, at: float) -> None:
    rec, x = torch.full((1, 3, 2, 2), at), torch.zeros(1, 3, 2, 2)
    _, slope = value_and_gradient(PIXEL_LOSSES[name], rec, x)
    assert (slope.sign() == rec.sign()).all()

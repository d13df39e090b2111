"""What every discriminator keeps to, whichever files the package has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vqtok.errors import ConfigError, ImageError, UnknownNameError
from vqtok.training.discriminators import DISCRIMINATORS
from vqtok.training.losses.r1 import r1_penalty
from vqtok.training.parts import make_discriminator
from vqtok.training.settings import Discriminator

SIZE = 16
SMALL: dict[str, dict[str, Any]] = {
    "patchgan": {"channels": 4, "layers": 2},
    "patchgan3d": {"channels": 4, "layers": 2},
    "stylegan": {"size": SIZE, "most": 8},
}
OF_PICTURES = ["patchgan", "stylegan"]


def test_all_are_here() -> None:
    assert list(DISCRIMINATORS) == sorted(SMALL)


def network(name: str, in_channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return DISCRIMINATORS[name](in_channels=in_channels, **SMALL[name])


def pixels(name: str, count: int = 3, channels: int = 3, frames: int = 3) -> Tensor:
    """What `name` is made for, pictures or clips, in [-1, 1]."""
    time = (frames,) if name not in OF_PICTURES else ()
    shape = (count, channels, *time, SIZE, SIZE)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_everything_learns(name: str, channels: int) -> None:
    judge, x = network(name, channels), pixels(name, channels=channels).requires_grad_()
    logits = judge(x)
    assert logits.shape[:2] == (3, 1)
    logits.square().mean().backward()
    for which, each in [("pixels", x), *judge.named_parameters()]:
        assert each.grad is not None, which
        assert torch.isfinite(each.grad).all(), which
        assert each.grad.any(), which


@pytest.mark.parametrize("name", SMALL)
def test_no_picture_looks_at_another(name: str) -> None:
    """Not by a rounding error: the logits of one have no gradient at the rest of the batch."""
    judge, x = network(name).train(), pixels(name).requires_grad_()
    logits, features = judge(x, features=True)
    for made in (logits, *features):
        (slope,) = torch.autograd.grad(made[1].square().sum(), x, retain_graph=True)
        assert slope[1].any()
        assert not slope[[0, 2]].any()


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_is_judged_as_its_pictures_are(name: str) -> None:
    judge, x = network(name), pixels(name)
    alone = torch.cat([judge(each) for each in x.split(1)])
    torch.testing.assert_close(judge(x), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_judging_changes_nothing(name: str) -> None:
    judge, x = network(name).train(), pixels(name)
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    first = judge(x)
    assert torch.equal(judge(x), first)
    assert torch.equal(judge.eval()(x), first)
    assert all(torch.equal(value, before[key]) for key, value in judge.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_it_is_saved_whole(name: str) -> None:
    judge, other = network(name), network(name)
    for weight in other.parameters():
        weight.data.zero_()
    other.load_state_dict(judge.state_dict())
    assert torch.equal(other(pixels(name)), judge(pixels(name)))


@pytest.mark.parametrize("name", SMALL)
def test_features_come_beside_the_same_logits(name: str) -> None:
    judge, x = network(name), pixels(name)
    logits, features = judge(x, features=True)
    assert torch.equal(logits, judge(x))
    assert isinstance(features, list)
    assert len(features) == len(judge.blocks) - (name != "stylegan")
    sides = [made.shape[-1] for made in features]
    assert sides == sorted(sides, reverse=True)
    assert all(len(made) == len(x) for made in features)


@pytest.mark.parametrize("name", OF_PICTURES)
def test_the_frames_of_a_clip_are_pictures(name: str) -> None:
    judge, clips = network(name), pixels("patchgan3d", count=2)
    logits, features = judge(clips, features=True)
    frames = torch.stack([clip[:, at] for clip in clips for at in range(3)])
    expected, made = judge(frames, features=True)
    assert torch.equal(logits, expected)
    for a, b in zip(features, made, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", SMALL)
def test_autocast_comes_near(name: str) -> None:
    judge, x = network(name), pixels(name)
    expected = judge(x)
    with torch.autocast("cpu", torch.bfloat16):
        logits = judge(x)
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.02)
    logits.float().mean().backward()
    for weight in judge.parameters():
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32
        assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_penalty_has_a_gradient(name: str) -> None:
    """The second derivative, against a difference of first ones."""
    judge, x = network(name).double(), pixels(name, count=2).double().requires_grad_()

    def penalty() -> Tensor:
        return r1_penalty(judge(x), x)

    weights = [weight for weight in judge.parameters() if weight.ndim > 1]
    generator = torch.Generator().manual_seed(2)
    way = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    slopes = torch.autograd.grad(penalty(), weights)
    expected = sum(float((a * b).sum()) for a, b in zip(slopes, way, strict=True))
    step, values = 1e-7, []
    for sign in (1, -2):
        for weight, direction in zip(weights, way, strict=True):
            weight.data.add_(direction, alpha=sign * step)
        values.append(penalty().item())
    assert expected == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", OF_PICTURES)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 3, 3, 16, 16)])
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError) as error:
        network(name)(torch.zeros(shape))
    assert str(error.value) == (
        f"the discriminator {name} takes pictures (B, C, H, W) or clips (B, C, T, H, W); got "
        f"{shape}"
    )


def test_an_unknown_discriminator() -> None:
    with pytest.raises(UnknownNameError) as error:
        DISCRIMINATORS["patchgan2d"]
    assert str(error.value) == (
        "there is no discriminator called 'patchgan2d'. Did you mean 'patchgan3d'? "
        "Known: patchgan, patchgan3d, stylegan."
    )


@pytest.mark.parametrize(
    ("name", "given", "rest"),
    [
        ("patchgan", "layer", "'layers'? Known: channels, in_channels, layers, norm."),
        ("patchgan3d", "channel", "'channels'? Known: channels, in_channels, layers, norm."),
        ("stylegan", "sizes", "'size'? Known: in_channels, most, multiplier, size."),
    ],
)
def test_an_unknown_setting(name: str, given: str, rest: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_discriminator(Discriminator(name=name, args={given: 2}), 3)
    assert str(error.value) == (
        f"the discriminator {name!r} has no setting {given!r}. Did you mean {rest}"
    )

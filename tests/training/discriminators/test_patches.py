"""PatchGAN, of pictures and of clips."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vqtok.errors import ConfigError, ImageError
from vqtok.training.discriminators.patchgan import PatchGAN
from vqtok.training.discriminators.patchgan3d import PatchGAN3d


def shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for name, p in network.named_parameters() if p.ndim > 1]


def test_the_default_is_that_of_pix2pix() -> None:
    with torch.device("meta"):
        network = PatchGAN()
    assert shapes(network) == [
        (64, 3, 4, 4),
        (128, 64, 4, 4),
        (256, 128, 4, 4),
        (512, 256, 4, 4),
        (1, 512, 4, 4),
    ]
    assert network(torch.empty(2, 3, 256, 256, device="meta")).shape == (2, 1, 30, 30)


def test_channels_grow_up_to_eight_times() -> None:
    with torch.device("meta"):
        network = PatchGAN(channels=2, layers=5)
    assert [to for to, *_ in shapes(network)] == [2, 4, 8, 16, 16, 16, 1]


def test_that_of_clips_has_kernels_of_three_frames() -> None:
    with torch.device("meta"):
        network = PatchGAN3d(channels=2, layers=2)
    assert shapes(network) == [(2, 3, 3, 4, 4), (4, 2, 3, 4, 4), (8, 4, 3, 4, 4), (1, 8, 3, 4, 4)]


@pytest.mark.parametrize("channels", [2, 16, 24, 64, 100])
def test_norms_have_groups_that_divide_the_channels(channels: int) -> None:
    expected = {2: [4, 8], 16: [32, 32], 24: [24, 32], 64: [32, 32], 100: [25, 25]}
    with torch.device("meta"):
        network = PatchGAN(channels=channels, layers=2)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert [norm.num_channels for norm in norms] == [2 * channels, 4 * channels]
    assert [norm.num_groups for norm in norms] == expected[channels]


def test_weights_start_small() -> None:
    torch.manual_seed(0)
    for network in (PatchGAN(channels=32, layers=2), PatchGAN3d(channels=32, layers=2)):
        for weight in (w for w in network.parameters() if w.ndim > 1):
            assert weight.mean().item() == pytest.approx(0, abs=0.002)
            assert weight.std().item() == pytest.approx(0.02, rel=0.1)
        for norm in (m for m in network.modules() if isinstance(m, nn.GroupNorm)):
            assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert not norm.bias.any()


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_how_far_a_logit_sees(layers: int, side: int) -> None:
    """Norms out of the way: they see the whole picture."""
    network = PatchGAN(channels=2, layers=layers)
    for block in network.blocks:
        if isinstance(block, nn.Sequential) and len(block) == 3:
            block[1] = nn.Identity()
    x = torch.rand(1, 3, 128, 128).requires_grad_()
    logits = network(x)
    middle = logits.shape[-1] // 2
    (slope,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    seen = slope[0].abs().sum(0) > 0
    assert (seen.any(0).sum(), seen.any(1).sum()) == (side, side)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize(("tall", "wide"), [(0, 0), (1, 7), (8, 15), (16, 3)])
def test_how_many_logits_there_are(layers: int, tall: int, wide: int) -> None:
    least = 3 * 2**layers
    sides = least + tall, least + wide
    with torch.device("meta"):
        logits = PatchGAN(channels=1, layers=layers)(torch.empty(1, 3, *sides))
    assert logits.shape == (1, 1, *(side // 2**layers - 2 for side in sides))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 9, 17])
def test_clips_of_any_length_go_through(layers: int, frames: int) -> None:
    side = 3 * 2**layers
    with torch.device("meta"):
        logits = PatchGAN3d(channels=1, layers=layers)(torch.empty(1, 3, frames, side, side))
    assert logits.shape == (1, 1, -(-frames // 2**layers), 1, 1)


def test_time_counts() -> None:
    torch.manual_seed(0)
    network, clip = PatchGAN3d(channels=4, layers=1), torch.rand(1, 3, 6, 8, 8)
    assert not torch.allclose(network(clip), network(clip[:, :, [0, 2, 1, 3, 4, 5]]))


@pytest.mark.parametrize("kind", [PatchGAN, PatchGAN3d])
@pytest.mark.parametrize(("layers", "sides"), [(3, (23, 64)), (3, (64, 23)), (1, (5, 5))])
def test_pictures_too_small(kind: type[nn.Module], layers: int, sides: tuple[int, int]) -> None:
    time = (2,) if kind is PatchGAN3d else ()
    with pytest.raises(ImageError) as error:
        kind(channels=1, layers=layers)(torch.zeros(1, 3, *time, *sides))
    assert str(error.value) == (
        f"the discriminator {kind.__name__.lower()} with layers={layers} takes pictures of at "
        f"least {3 * 2**layers} pixels a side; got {min(sides)}; with fewer layers "
        "(discriminator.args.layers) it takes smaller ones"
    )


def test_that_of_clips_takes_no_pictures() -> None:
    with pytest.raises(ImageError) as error:
        PatchGAN3d(channels=1, layers=1)(torch.zeros(2, 3, 16, 16))
    assert str(error.value) == (
        "the discriminator patchgan3d takes clips (B, C, T, H, W); got (2, 3, 16, 16); for "
        "pictures there is patchgan"
    )


@pytest.mark.parametrize("kind", [PatchGAN, PatchGAN3d])
@pytest.mark.parametrize(("layers", "channels"), [(0, 64), (3, 0), (-1, -1)])
def test_settings_that_cannot_be(kind: type[nn.Module], layers: int, channels: int) -> None:
    with pytest.raises(ConfigError) as error:
        kind(layers=layers, channels=channels)
    assert str(error.value) == (
        f"a {kind.__name__.lower()} has at least one layer and one channel; got layers={layers} "
        f"and channels={channels}"
    )


@pytest.mark.parametrize("kind", [PatchGAN, PatchGAN3d])
def test_batch_norms_judge_by_what_is_judged_together(kind: type[PatchGAN]) -> None:
    torch.manual_seed(0)
    network = kind(channels=4, layers=1, norm="batch")
    assert not list(network.buffers())
    x = torch.rand(4, 3, *([8] if kind is PatchGAN3d else []), 8, 8) * 2 - 1
    x[2:] *= 0.1
    first, second = network(x[:2]), network(x[2:])
    apart, made = network(x, features=True, parts=2)
    assert torch.equal(apart, torch.cat([first, second]))
    assert all(len(layer) == 4 for layer in made)
    assert not torch.allclose(network(x), apart)
    # A group norm has no such parts.
    plain = kind(channels=4, layers=1)
    assert torch.equal(plain(x, parts=2), plain(x))


def test_a_norm_that_there_is_not() -> None:
    with pytest.raises(ConfigError) as error:
        PatchGAN(norm="layer")
    assert str(error.value) == (
        "there is no norm of a patchgan called 'layer'. Known: batch, group."
    )

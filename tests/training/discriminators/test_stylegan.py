from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vqtok.errors import ConfigError, ImageError
from vqtok.training.discriminators.stylegan import StyleGAN

BLUR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def correlate(x: np.ndarray, weight: np.ndarray, pad: int, stride: int = 1) -> np.ndarray:
    """(C, H, W), (O, C, k, k) -> (O, h, w), by loops in float64."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    side = weight.shape[-1]
    places = [range(0, length - side + 1, stride) for length in x.shape[1:]]
    out = np.zeros((len(weight), *map(len, places)))
    for i, top in enumerate(places[0]):
        for j, left in enumerate(places[1]):
            patch = x[:, top : top + side, left : left + side]
            out[:, i, j] = (weight * patch).sum((1, 2, 3))
    return out


def blurred(x: np.ndarray, pad: int) -> np.ndarray:
    return np.stack([correlate(plane[None], BLUR[None, None], pad)[0] for plane in x])


def activated(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def scaled(weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A weight as the paper uses it: over the root of how many numbers go into an output."""
    weight = weights[f"{name}.weight"]
    return weight / np.sqrt(weight[0].size)


def by_loops(weights: dict[str, np.ndarray], x: np.ndarray, blocks: int) -> float:
    """StyleGAN2's discriminator, as its authors wrote it down, without minibatch deviation."""

    def conv(name: str, x: np.ndarray, pad: int, stride: int = 1) -> np.ndarray:
        out = correlate(x, scaled(weights, name), pad, stride)
        return activated(out + weights[f"{name}.bias"][:, None, None])

    x = conv("blocks.0", x, 0)
    for name in (f"blocks.{at}" for at in range(1, blocks + 1)):
        # Each blur pads so much that, with the convolution after it, half of the side is left.
        out = conv(f"{name}.second", blurred(conv(f"{name}.first", x, 1), 2), 0, 2)
        short = correlate(blurred(x, 1), scaled(weights, f"{name}.short"), 0, 2)
        x = (out + short) / np.sqrt(2)
    x = conv(f"blocks.{blocks + 1}", x, 1)
    middle = activated(scaled(weights, "middle") @ x.ravel() + weights["middle.bias"])
    return float((scaled(weights, "last") @ middle + weights["last.bias"]).item())


@pytest.mark.parametrize(("size", "blocks"), [(8, 1), (16, 2)])
def test_it_is_what_the_paper_describes(size: int, blocks: int) -> None:
    torch.manual_seed(0)
    network = StyleGAN(size=size, most=4).double()
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    weights = {name: weight.detach().numpy() for name, weight in network.named_parameters()}
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    expected = [by_loops(weights, each.numpy(), blocks) for each in x]
    np.testing.assert_allclose(network(x).detach()[:, 0], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("multiplier", "widths"),
    [
        (1, {256: 64, 128: 128, 64: 256, 32: 512, 16: 512, 8: 512, 4: 512}),
        (2, {256: 128, 128: 256, 64: 512, 32: 512, 16: 512, 8: 512, 4: 512}),
    ],
)
def test_the_widths_of_the_published_networks(multiplier: int, widths: dict[int, int]) -> None:
    with torch.device("meta"):
        network = StyleGAN(multiplier=multiplier)
        _, features = network(torch.empty(1, 3, 256, 256), features=True)
    found = {made.shape[-1]: made.shape[1] for made in features}
    assert found == widths
    assert len(features) == len(widths) + 1


def test_the_large_one_is_the_default() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in each.parameters()) for each in (StyleGAN(), large())]
    assert counts[0] == counts[1]


def large() -> StyleGAN:
    return StyleGAN(in_channels=3, size=256, multiplier=2, most=512)


@pytest.mark.parametrize("most", [4, 64])
def test_weights_are_drawn_alike_and_signals_keep_their_size(most: int) -> None:
    """Every weight from N(0, 1), whatever its layer: what scales it keeps rates equal."""
    torch.manual_seed(0)
    network = StyleGAN(size=16, most=most)
    weights = torch.cat([w.flatten() for w in network.parameters() if w.ndim > 1])
    assert weights.mean().item() == pytest.approx(0, abs=0.1)
    assert weights.std().item() == pytest.approx(1, rel=0.1)
    assert not any(w.any() for w in network.parameters() if w.ndim == 1)
    x: Tensor = torch.randn(8, 3, 16, 16)
    _, features = network(x, features=True)
    assert all(0.1 < made.square().mean().sqrt() < 3 for made in features)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 3, 16, 32), (1, 3, 2, 8, 8)])
def test_it_takes_one_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError) as error:
        StyleGAN(size=16, most=4)(torch.zeros(shape))
    assert str(error.value) == (
        f"the discriminator stylegan was made for 16 x 16 pixels; got {shape[-2]} x {shape[-1]}; "
        "set discriminator.args.size"
    )


@pytest.mark.parametrize("size", [0, -8, 4, 12, 48, 255])
def test_sizes_that_cannot_be(size: int) -> None:
    with pytest.raises(ConfigError) as error:
        StyleGAN(size=size)
    assert str(error.value) == f"size is a power of two, at least 8; got {size}"


@pytest.mark.parametrize(("multiplier", "most"), [(0, 512), (1, 0), (-1, -2)])
def test_widths_that_cannot_be(multiplier: int, most: int) -> None:
    with pytest.raises(ConfigError) as error:
        StyleGAN(size=8, multiplier=multiplier, most=most)
    assert str(error.value) == (
        "a stylegan has a multiplier and most channels of at least 1; got "
        f"multiplier={multiplier} and most={most}"
    )

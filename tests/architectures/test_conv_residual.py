from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import Architecture
from vqtok.architectures.conv_residual import Residual, conv_residual
from vqtok.autoencoders import AutoencoderVQConvResidual
from vqtok.errors import ConfigError


def make(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "channels": 8,
        "code_channels": 5,
        "residual_layers": 2,
        "residual_channels": 4,
        "downsamplings": 2,
        "output": "linear",
    }
    return conv_residual(**{**settings, **changes})


def residual(x: Tensor, block: nn.Module) -> Tensor:
    weights = block.state_dict()
    inner = F.conv2d(F.relu(x), weights["conv.weight"], padding=1)
    return x + F.conv2d(F.relu(inner), weights["widen.weight"])


@torch.no_grad()
def test_the_layers_of_the_paper() -> None:
    net = make()
    x = torch.randn(2, 3, 16, 24)
    w = net.encoder.state_dict()

    def conv(x: Tensor, name: str, **how: Any) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1, **how)

    h = F.relu(conv(x, "down_blocks.0", stride=2))
    h = F.relu(conv(h, "down_blocks.1", stride=2))
    h = conv(h, "conv_mid")
    for block in net.encoder.residuals:
        h = residual(h, block)
    features = net.encoder(x)
    assert features.shape == (2, 8, 4, 6)
    assert torch.allclose(features, F.relu(h), atol=1e-5)

    codes = torch.randn(2, 5, 4, 6)
    w = net.decoder.state_dict()
    h = conv(codes, "conv_in")
    for block in net.decoder.residuals:
        h = residual(h, block)
    for name in ("up_blocks.0", "conv_out"):
        h = F.relu(h)
        h = F.conv_transpose2d(h, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)
    assert torch.allclose(net.decoder(codes), h, atol=1e-5)


def test_the_networks_of_the_study() -> None:
    """By default those of the published implementations: 64 of 128 channels at the full size."""
    with torch.device("meta"):
        ours = AutoencoderVQConvResidual(quantizer_args={"start": "kaiming"})
    shapes = {name: tuple(weight.shape) for name, weight in ours.named_parameters()}
    assert shapes["encoder.down_blocks.0.weight"] == (64, 3, 4, 4)
    assert shapes["encoder.down_blocks.1.weight"] == (128, 64, 4, 4)
    assert shapes["encoder.conv_mid.weight"] == (128, 128, 3, 3)
    assert shapes["encoder.residuals.1.conv.weight"] == (32, 128, 3, 3)
    assert shapes["encoder.residuals.1.widen.weight"] == (128, 32, 1, 1)
    assert shapes["quant_conv.weight"] == (64, 128, 1, 1)
    assert shapes["decoder.conv_in.weight"] == (128, 64, 3, 3)
    assert shapes["decoder.up_blocks.0.weight"] == (128, 64, 4, 4)
    assert shapes["decoder.conv_out.weight"] == (64, 3, 4, 4)
    assert ours.stride == (4, 4)
    with torch.no_grad():
        assert ours.encode(torch.zeros(1, 3, 32, 32, device="meta")).latents.shape == (1, 64, 8, 8)


@pytest.mark.parametrize("downsamplings", [1, 2, 3])
def test_each_downsampling_halves_a_side(downsamplings: int) -> None:
    net = make(downsamplings=downsamplings)
    stride = 2**downsamplings
    assert net.stride == (stride, stride)
    x = torch.randn(1, 3, 3 * stride, 2 * stride)
    assert net.encoder(x).shape == (1, 8, 3, 2)
    assert net.decoder(torch.randn(1, 5, 3, 2)).shape == x.shape


def test_no_residual_layers() -> None:
    assert make(residual_layers=0).encoder(torch.randn(1, 3, 8, 8)).shape == (1, 8, 2, 2)


def test_a_residual_layer_starts_from_its_input() -> None:
    block = Residual(8, 4)
    nn.init.zeros_(block.widen.weight)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_sigmoid_is_pixels_from_0_to_1() -> None:
    torch.manual_seed(0)
    ours = AutoencoderVQConvResidual(channels=8, residual_channels=4, latent_channels=4).eval()
    assert (ours.pixels.mean, ours.pixels.std) == ((0.0,) * 3, (1.0,) * 3)
    seen: list[Tensor] = []
    ours.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    ours.decoder.register_forward_hook(lambda module, args, out: seen.append(out))
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    x[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    vectors = torch.randn(1, 4, 4, 4) * 100
    ours.encode(x)
    inner, out = seen[0], ours.decode(vectors, force_not_quantize=True).sample
    assert torch.allclose(inner, (x + 1) / 2) and (inner.min(), inner.max()) == (0, 1)
    assert seen[-1].min() >= 0 and seen[-1].max() <= 1
    assert torch.allclose(out, seen[-1] * 2 - 1) and out.min() < -0.5 and out.max() > 0.5


@torch.no_grad()
def test_linear_is_the_range_that_is_named() -> None:
    settings: dict[str, Any] = {"channels": 8, "residual_channels": 4, "output": "linear"}
    assert AutoencoderVQConvResidual(**settings).pixels.is_signed
    clip = AutoencoderVQConvResidual(**settings, pixel_mean=(0.5, 0.4, 0.3), pixel_std=(0.2,) * 3)
    assert clip.pixels.mean == (0.5, 0.4, 0.3)


def test_the_range_of_sigmoid_may_be_named() -> None:
    ours = AutoencoderVQConvResidual(channels=8, pixel_mean=[0, 0, 0], pixel_std=[1, 1, 1])
    assert ours.pixels.std == (1.0, 1.0, 1.0)


def test_the_decoder_takes_the_codes_as_they_are() -> None:
    ours = AutoencoderVQConvResidual(channels=8, latent_channels=6, vq_embed_dim=4)
    assert ours.quantize.dim == 4
    assert ours.quant_conv.weight.shape == (4, 8, 1, 1)
    assert ours.decoder.conv_in.weight.shape == (8, 4, 3, 3)
    assert not list(ours.post_quant_conv.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downsamplings": 0}, "downsamplings is at least 1; got 0"),
        ({"channels": 0}, "channels is at least 1; got 0"),
        ({"residual_channels": -1}, "residual_channels is at least 1; got -1"),
        ({"residual_layers": -1}, "residual_layers is at least 0; got -1"),
        ({"channels": 7}, "channels is even, for half of them see the full size; got 7"),
        ({"output": "tanh"}, "output is 'sigmoid' or 'linear'; got 'tanh'"),
        (
            {"pixel_mean": [0.5, 0.5, 0.5]},
            "with output='sigmoid' pixels lie in [0, 1], so pixel_mean is [0.0, 0.0, 0.0], or left "
            "out; got [0.5, 0.5, 0.5]",
        ),
        (
            {"pixel_std": [0.5, 0.5, 0.5]},
            "with output='sigmoid' pixels lie in [0, 1], so pixel_std is [1.0, 1.0, 1.0], or left "
            "out; got [0.5, 0.5, 0.5]",
        ),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        AutoencoderVQConvResidual(**{"channels": 8, **changes})
    assert str(error.value) == message

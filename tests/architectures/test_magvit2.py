from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import Architecture
from vqtok.architectures.magvit2 import AdaptiveNorm, Residual, Style, magvit2
from vqtok.autoencoders import AutoencoderVQMagvit2
from vqtok.errors import ConfigError


def make(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 8, 12),
        "layers_per_block": 2,
        "latent_channels": 5,
        "norm_num_groups": 4,
    }
    return magvit2(**{**settings, **changes})


@torch.no_grad()
def test_shapes() -> None:
    net = make()
    codes = net.encoder(torch.randn(2, 3, 16, 24))
    assert codes.shape == (2, 5, 4, 6) and net.stride == (4, 4)
    assert net.decoder(codes).shape == (2, 3, 16, 24)


@torch.no_grad()
def test_what_passes_by_a_block_is_its_input() -> None:
    torch.manual_seed(0)
    block, x = Residual(8, 12, 4), torch.randn(2, 8, 5, 6)
    hidden = F.silu(F.group_norm(x, 4, block.norm1.weight, block.norm1.bias, 1e-6))
    hidden = block.norm2(F.conv2d(hidden, block.conv1.weight, padding=1))
    hidden = F.conv2d(F.silu(hidden), block.conv2.weight, padding=1)
    assert block.conv_shortcut is not None
    assert torch.allclose(block(x), hidden + F.conv2d(x, block.conv_shortcut.weight), atol=1e-6)
    assert Residual(8, 8, 4).conv_shortcut is None


@torch.no_grad()
def test_the_adaptive_norm() -> None:
    torch.manual_seed(0)
    norm, x = AdaptiveNorm(5, 8, 4), torch.randn(2, 8, 3, 4)
    mean, spread = torch.randn(2, 5), torch.rand(2, 5)
    even = nn.GroupNorm(4, 8, eps=1e-6, affine=False)(x)
    scale, shift = norm.gamma(spread), norm.beta(mean)
    for item in range(2):
        for channel in range(8):
            expected = even[item, channel] * scale[item, channel] + shift[item, channel]
            found = norm(x, Style(mean, spread))[item, channel]
            assert torch.allclose(found, expected, atol=1e-6)


def styles(decoder: nn.Module, codes: Tensor) -> Style:
    seen: list[Style] = []
    norm = next(m for m in decoder.modules() if isinstance(m, AdaptiveNorm))
    handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    decoder(codes)
    handle.remove()
    return seen[0]


@torch.no_grad()
def test_norms_see_the_statistics_of_the_codes() -> None:
    net, codes = make(), torch.randn(2, 5, 4, 6)
    style = styles(net.decoder, codes)
    flat = codes.flatten(2)
    assert torch.allclose(style.mean, flat.mean(2), atol=1e-6)
    assert torch.allclose(style.spread, (flat.var(2) + 1e-6).sqrt(), atol=1e-6)


@torch.no_grad()
def test_a_single_token_has_no_spread() -> None:
    net, codes = make(), torch.randn(2, 5, 1, 1)
    assert torch.allclose(styles(net.decoder, codes).spread, torch.full((2, 5), 1e-3))
    assert net.decoder(codes).isfinite().all()


@torch.no_grad()
def test_channels_become_pixels_row_by_row() -> None:
    """The four pixels of a feature lie side by side in quarters of the channels."""
    net = make(block_out_channels=(4, 4), layers_per_block=1)
    up = net.decoder.up_blocks[0]
    x, style = torch.randn(1, 4, 2, 3), Style(torch.zeros(1, 5), torch.zeros(1, 5))
    inner = up.resnets(up.adaptive(x, style))
    wide = F.conv2d(inner, up.upsample.weight, up.upsample.bias, padding=1)
    grown = up(x, style)
    assert grown.shape == (1, 4, 4, 6)
    for row in range(2):
        for column in range(2):
            quarter = wide[:, 4 * (2 * row + column) :][:, :4]
            assert torch.equal(grown[:, :, row::2, column::2], quarter)


def test_the_published_networks() -> None:
    with torch.device("meta"):
        ours = AutoencoderVQMagvit2()
    shapes = {name: tuple(weight.shape) for name, weight in ours.named_parameters()}
    assert shapes["encoder.conv_in.weight"] == (128, 3, 3, 3)
    assert shapes["encoder.down_blocks.3.downsample.weight"] == (256, 256, 3, 3)
    assert shapes["encoder.down_blocks.4.resnets.3.conv2.weight"] == (512, 512, 3, 3)
    assert shapes["encoder.mid_block.3.conv1.weight"] == (512, 512, 3, 3)
    assert shapes["encoder.conv_out.weight"] == (18, 512, 1, 1)
    assert shapes["decoder.conv_in.weight"] == (512, 18, 3, 3)
    assert shapes["decoder.up_blocks.0.adaptive.gamma.weight"] == (512, 18)
    assert shapes["decoder.up_blocks.1.resnets.0.conv_shortcut.weight"] == (256, 512, 1, 1)
    assert shapes["decoder.up_blocks.3.upsample.weight"] == (512, 128, 3, 3)
    assert shapes["decoder.conv_out.weight"] == (3, 128, 3, 3)
    assert "encoder.conv_in.bias" not in shapes
    assert ours.quantize.codebook_size == 1 << 18 and ours.stride == (16, 16)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError) as error:
        AutoencoderVQMagvit2(vq_embed_dim=8)
    assert str(error.value) == (
        "the decoder takes codes as wide as the encoder's latents, so vq_embed_dim is "
        "latent_channels=18; got 8"
    )
    with pytest.raises(ConfigError) as error:
        make(block_out_channels=(8, 10))
    assert str(error.value) == (
        "each of block_out_channels is a multiple of norm_num_groups=4; got 10"
    )

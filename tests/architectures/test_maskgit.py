from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import Architecture
from vqtok.architectures.maskgit import Down, Residual, Up, maskgit
from vqtok.autoencoders import AutoencoderVQMaskGIT
from vqtok.errors import ConfigError


def make(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 2,
        "code_channels": 5,
        "norm_num_groups": 4,
    }
    return maskgit(**{**settings, **changes})


def same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A convolution of stride 1 whose result is as large as what it gets, as JAX pads for it."""
    total = conv.kernel_size[0] - 1
    before, after = total // 2, total - total // 2
    return F.conv2d(F.pad(x, [before, after, before, after]), conv.weight, conv.bias)


@torch.no_grad()
def test_what_goes_by_a_block_that_changes_the_width() -> None:
    """A projection of the block's output, not of its input."""
    torch.manual_seed(0)
    block = Residual(8, 12, 4)
    assert block.conv_shortcut is not None
    x = torch.randn(2, 8, 5, 7)
    hidden = same(F.silu(block.norm1(x)), block.conv1)
    hidden = same(F.silu(block.norm2(hidden)), block.conv2)
    beside = torch.einsum("bchw,dc->bdhw", hidden, block.conv_shortcut.weight[..., 0, 0])
    assert torch.allclose(block(x), hidden + beside, atol=1e-6)


@torch.no_grad()
def test_what_goes_by_a_block_that_keeps_the_width() -> None:
    torch.manual_seed(0)
    block = Residual(8, 8, 4)
    assert block.conv_shortcut is None
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(x), x)


@torch.no_grad()
def test_down_and_up() -> None:
    x = torch.randn(2, 8, 6, 4)
    down = Down(iter([]), last=False)
    assert torch.allclose(down(x), x.view(2, 8, 3, 2, 2, 2).mean((3, 5)), atol=1e-6)
    assert torch.equal(Down(iter([]), last=True)(x), x)
    up = Up(iter([]), 8, last=False)
    assert up.upsample_conv is not None
    twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(up(x), same(twice, up.upsample_conv), atol=1e-6)
    assert torch.equal(Up(iter([]), 8, last=True)(x), x)


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_sizes(levels: int) -> None:
    net = make(block_out_channels=(8,) * levels)
    step = 2 ** (levels - 1)
    assert net.stride == (step, step)
    features = net.encoder(torch.randn(1, 3, 3 * step, 5 * step))
    assert features.shape == (1, 8, 3, 5)
    assert net.decoder(features[:, :5]).shape == (1, 3, 3 * step, 5 * step)


def test_the_widths_of_the_decoder_are_in_order_of_use() -> None:
    net = make(block_out_channels=(8, 16, 32))
    widths = [[b.conv2.weight.shape[0] for b in level.resnets] for level in net.decoder.up_blocks]
    assert widths == [[32, 32], [16, 16], [8, 8]]
    widths = [[b.conv2.weight.shape[0] for b in level.resnets] for level in net.encoder.down_blocks]
    assert widths == [[8, 8], [16, 16], [32, 32]]


def test_the_published_networks() -> None:
    """The defaults are those, with the reference's number of weights."""
    with torch.device("meta"):
        ours = AutoencoderVQMaskGIT(quantizer_args={"start": "kaiming"})
    weights = {name: p.shape for name, p in ours.named_parameters()}
    assert ours.stride == (16, 16)
    assert sum(shape.numel() for shape in weights.values()) == 54_515_587
    assert {name for name in weights if name.endswith("bias") and "norm" not in name} == {
        "quant_conv.bias",
        "decoder.conv_in.bias",
        "decoder.conv_out.bias",
        *(f"decoder.up_blocks.{level}.upsample_conv.bias" for level in range(4)),
    }
    assert weights["quant_conv.weight"] == (256, 512, 1, 1)


def test_it_exports_for_any_size() -> None:
    ours = AutoencoderVQMaskGIT(
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4
    ).eval()
    side = torch.export.Dim("h", min=2, max=64), torch.export.Dim("w", min=2, max=64)
    program = torch.export.export(
        ours.encoder,
        (torch.randn(2, 3, 8, 12),),
        dynamic_shapes=({0: torch.export.Dim("b"), 2: 2 * side[0], 3: 2 * side[1]},),
    )
    x = torch.randn(3, 3, 20, 6)
    assert torch.allclose(program.module()(x), ours.encoder(x), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"block_out_channels": ()},
            "block_out_channels has a number for each resolution; got none",
        ),
        ({"layers_per_block": 0}, "layers_per_block is at least 1; got 0"),
        (
            {"block_out_channels": (8, 10)},
            "each of block_out_channels is a multiple of norm_num_groups=4; got 10",
        ),
        (
            {"block_out_channels": (0, 8)},
            "each of block_out_channels is a multiple of norm_num_groups=4; got 0",
        ),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(**changes)
    assert str(error.value) == message

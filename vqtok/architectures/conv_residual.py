"""The encoder and decoder of the first VQ-VAE: strided convolutions and a stack of residual blocks.

As van den Oord et al. (2017) describe it and its later implementations have it, with the residual
layers before their activation and none of the norms that VQGAN brought.
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.stack import Stack
from vqtok.errors import ConfigError

__all__ = ["Decoder", "Encoder", "Output", "Residual", "conv_residual"]

Output = Literal["sigmoid", "linear"]


@ARCHITECTURES.register("conv_residual")
def conv_residual(
    *,
    in_channels: int,
    out_channels: int,
    channels: int,
    code_channels: int,
    residual_layers: int,
    residual_channels: int,
    downsamplings: int,
    output: str,
) -> Architecture:
    """`downsamplings` convolutions that halve a side, and as many transposed ones back.

    channels       the width that the encoder puts out
    code_channels  the width that the decoder takes
    output         "sigmoid": the decoder gives pixels in [0, 1]; "linear": any number
    """
    sizes = {
        "downsamplings": downsamplings,
        "residual_channels": residual_channels,
        "channels": channels,
    }
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{name} is at least 1; got {value}")
    if residual_layers < 0:
        raise ConfigError(f"residual_layers is at least 0; got {residual_layers}")
    if channels % 2:
        raise ConfigError(f"channels is even, for half of them see the full size; got {channels}")
    if output not in get_args(Output):
        raise ConfigError(f"output is 'sigmoid' or 'linear'; got {output!r}")

    def residuals() -> Stack:
        return Stack(Residual(channels, residual_channels) for _ in range(residual_layers))

    encoder = Encoder(in_channels, channels, downsamplings, residuals())
    decoder = Decoder(code_channels, channels, downsamplings, residuals(), out_channels)
    if output == "sigmoid":
        decoder.act_out = nn.Sigmoid()
    stride = 2**downsamplings
    return Architecture(encoder, decoder, (stride, stride))


class Residual(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution, each after a ReLU, beside the identity."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        self.widen = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> the same shape."""
        out: Tensor = x + self.widen(self.conv(x.relu()).relu())
        return out


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, D, H / 2^n, W / 2^n)."""

    def __init__(self, pixels: int, channels: int, downsamplings: int, residuals: Stack) -> None:
        super().__init__()
        widths = [pixels, *_widths(channels, downsamplings)]
        self.down_blocks = nn.ModuleList(
            nn.Conv2d(width, wider, 4, stride=2, padding=1)
            for width, wider in itertools.pairwise(widths)
        )
        self.conv_mid = nn.Conv2d(channels, channels, 3, padding=1)
        self.residuals = residuals

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to features."""
        for block in self.down_blocks:
            x = block(x).relu()
        out: Tensor = self.residuals(self.conv_mid(x))
        return out.relu()


class Decoder(nn.Module):
    """(B, D, h, w) -> (B, C, h * 2^n, w * 2^n)."""

    def __init__(
        self, codes: int, channels: int, downsamplings: int, residuals: Stack, pixels: int
    ) -> None:
        super().__init__()
        widths = _widths(channels, downsamplings)[::-1]
        self.conv_in = nn.Conv2d(codes, channels, 3, padding=1)
        self.residuals = residuals
        self.up_blocks = nn.ModuleList(
            nn.ConvTranspose2d(width, narrower, 4, stride=2, padding=1)
            for width, narrower in itertools.pairwise(widths)
        )
        self.conv_out = nn.ConvTranspose2d(widths[-1], pixels, 4, stride=2, padding=1)
        self.act_out: nn.Module = nn.Identity()

    def forward(self, codes: Tensor) -> Tensor:
        """Vectors to pixels."""
        x = self.residuals(self.conv_in(codes)).relu()
        for block in self.up_blocks:
            x = block(x).relu()
        out: Tensor = self.act_out(self.conv_out(x))
        return out


def _widths(channels: int, downsamplings: int) -> list[int]:
    """Of the feature maps from the finest on: half of the width at the first, as in the paper's."""
    first = channels if downsamplings == 1 else channels // 2
    return [first, *[channels] * (downsamplings - 1)]

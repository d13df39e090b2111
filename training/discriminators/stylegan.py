"""The residual discriminator of StyleGAN2 (arXiv 1912.04958), in plain torch.

Without its minibatch deviation: that layer looks at the other pictures of a batch, and what it
sees would depend on how many processes share the batch.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ConfigError, ImageError
from vqtok.training.discriminators import DISCRIMINATORS, as_frames
from vqtok.training.discriminators.layers import through

__all__ = ["StyleGAN"]

SMALLEST = 4  # side at which the convolutions end


@DISCRIMINATORS.register("stylegan")
class StyleGAN(nn.Module):
    """One logit a picture, of the `size` that the network is made for.

    size         side of the pictures, a power of two
    multiplier   of the channels of layers that see 64 pixels a side and more; 2 is the paper's
                 large network, 1 its small one
    most         channels of the widest layers
    """

    def __init__(
        self, in_channels: int = 3, size: int = 256, multiplier: int = 2, most: int = 512
    ) -> None:
        super().__init__()
        sides = _sides(size)
        if multiplier < 1 or most < 1:
            raise ConfigError(
                "a stylegan has a multiplier and most channels of at least 1; got "
                f"multiplier={multiplier} and most={most}"
            )
        self.size = size
        widths = [min(most, 16384 * multiplier // side) if side >= 64 else most for side in sides]
        last = widths[-1]
        blocks = (_Block(*pair) for pair in pairwise(widths))
        self.blocks = nn.ModuleList(
            [_Conv(in_channels, widths[0], 1), *blocks, _Conv(last, last, 3)]
        )
        self.middle = _Linear(last * SMALLEST**2, last)
        self.last = _Linear(last, 1, activate=False)

    def forward(
        self, x: Tensor, features: bool = False, parts: int = 1
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) -> logits (B, 1); see the package for the rest, and for clips."""
        frames = as_frames(x, "stylegan")
        self._check(*frames.shape[-2:])
        seen, made = through(self.blocks, frames)
        logits = self.last(self.middle(seen.flatten(1)))
        return (logits, [*made, seen]) if features else logits

    def check_side(self, side: int) -> None:
        """`ImageError` where it was made for pictures of another side."""
        self._check(side, side)

    def _check(self, *sides: int) -> None:
        if sides != (self.size, self.size):
            raise ImageError(
                f"the discriminator stylegan was made for {self.size} x {self.size} pixels; got "
                f"{' x '.join(map(str, sides))}; set discriminator.args.size"
            )


class _Conv(nn.Module):
    """A convolution whose weights are N(0, 1) and scaled as they are used: equal learning rates.

    One that halves, or does not activate, is given a picture that is blurred already.
    """

    def __init__(self, width: int, to: int, side: int, activate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(to, width, side, side))
        self.bias = nn.Parameter(torch.zeros(to)) if activate else None
        self.gain = (width * side**2) ** -0.5

    def forward(self, x: Tensor, halve: bool = False) -> Tensor:
        pad = 0 if halve else self.weight.shape[-1] // 2
        out = F.conv2d(x, self.weight * self.gain, self.bias, 2 if halve else 1, pad)
        return _activated(out) if self.bias is not None else out


class _Linear(nn.Module):
    def __init__(self, width: int, to: int, activate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(to, width))
        self.bias = nn.Parameter(torch.zeros(to))
        self.gain, self.activate = width**-0.5, activate

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.weight * self.gain, self.bias)
        return _activated(out) if self.activate else out


class _Block(nn.Module):
    """Two convolutions and a short cut; both halve the picture, blurred before."""

    kernel: Tensor

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.first = _Conv(width, width, 3)
        self.second = _Conv(width, to, 3)
        self.short = _Conv(width, to, 1, activate=False)
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", row[:, None] * row, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Wide enough for a convolution of three without padding, which leaves half of the side.
        out: Tensor = self.second(self._blurred(self.first(x), pad=2), halve=True)
        # One of a single pixel may as well skip what it would not look at.
        out = out + self.short(self._blurred(x, pad=1, stride=2))
        return out / math.sqrt(2)

    def _blurred(self, x: Tensor, pad: int, stride: int = 1) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(x, kernel, stride=stride, padding=pad, groups=channels)


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _sides(size: int) -> list[int]:
    """The sides that pictures have on their way: from `size` down to the smallest."""
    levels = int(math.log2(size)) if size > 0 else 0
    if 2**levels != size or size < 2 * SMALLEST:
        raise ConfigError(f"size is a power of two, at least {2 * SMALLEST}; got {size}")
    return [2**level for level in range(levels, 1, -1)]

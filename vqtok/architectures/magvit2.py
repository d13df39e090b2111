"""The convolutional networks of Open-MAGVIT2 (arXiv 2409.04410), without attention.

A side is halved by strided convolutions, and doubled by convolutions whose channels become pixels.
At each resolution the decoder's features are normalised, then scaled and shifted by what the
spread and the mean of the picture's codes say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.maskgit import check
from vqtok.architectures.stack import Stack

__all__ = ["AdaptiveNorm", "Decoder", "Down", "Encoder", "Residual", "Style", "Up", "magvit2"]

EPS = 1e-6


@ARCHITECTURES.register("magvit2")
def magvit2(
    *,
    in_channels: int,
    out_channels: int,
    block_out_channels: tuple[int, ...],
    layers_per_block: int,
    latent_channels: int,
    norm_num_groups: int,
) -> Architecture:
    """One resolution for each entry of `block_out_channels`, halved between them.

    The encoder puts out `latent_channels`, and the decoder takes as many.
    """
    check(block_out_channels, layers_per_block, norm_num_groups)
    sizes = (block_out_channels, layers_per_block, norm_num_groups)
    encoder = Encoder(in_channels, *sizes, latent_channels)
    decoder = Decoder(latent_channels, *sizes, out_channels)
    stride = 2 ** (len(block_out_channels) - 1)
    return Architecture(encoder, decoder, (stride, stride))


class Style(NamedTuple):
    """What the decoder's norms see of the codes of a picture."""

    mean: Tensor  # (B, D)
    spread: Tensor  # (B, D) standard deviation


class Residual(nn.Module):
    """Two 3 x 3 convolutions, each after a norm and SiLU, beside the identity or a projection."""

    def __init__(self, width: int, to: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, eps=EPS)
        self.conv1 = nn.Conv2d(width, to, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, to, eps=EPS)
        self.conv2 = nn.Conv2d(to, to, 3, padding=1, bias=False)
        self.conv_shortcut = nn.Conv2d(width, to, 1, bias=False) if width != to else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, to, H, W)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        beside = x if self.conv_shortcut is None else self.conv_shortcut(x)
        out: Tensor = hidden + beside
        return out


class Down(nn.Module):
    """The blocks of one resolution, then half the size unless it is the last."""

    def __init__(self, width: int, to: int, layers: int, groups: int, *, last: bool) -> None:
        super().__init__()
        self.resnets = _blocks(width, to, layers, groups)
        self.downsample = None if last else nn.Conv2d(to, to, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D', H / 2, W / 2), or (B, D', H, W) at the last."""
        x = self.resnets(x)
        if self.downsample is not None:
            x = self.downsample(x)
        return x


class AdaptiveNorm(nn.Module):
    """A group norm whose scale and shift come from the picture's codes."""

    def __init__(self, codes: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=EPS, affine=False)
        self.gamma = nn.Linear(codes, width)
        self.beta = nn.Linear(codes, width)

    def forward(self, x: Tensor, style: Style) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        scale, shift = self.gamma(style.spread), self.beta(style.mean)
        out: Tensor = self.norm(x) * scale[..., None, None] + shift[..., None, None]
        return out


class Up(nn.Module):
    """The adaptive norm and the blocks of one resolution; twice the size unless it is the last."""

    def __init__(
        self, codes: int, width: int, to: int, layers: int, groups: int, *, last: bool
    ) -> None:
        super().__init__()
        self.adaptive = AdaptiveNorm(codes, width, groups)
        self.resnets = _blocks(width, to, layers, groups)
        self.upsample = None if last else nn.Conv2d(to, 4 * to, 3, padding=1)

    def forward(self, x: Tensor, style: Style) -> Tensor:
        """(B, D, h, w) -> (B, D', 2 h, 2 w), or (B, D', h, w) at the last."""
        x = self.resnets(self.adaptive(x, style))
        if self.upsample is not None:
            x = rearrange(self.upsample(x), "b (p q d) h w -> b d (h p) (w q)", p=2, q=2)
        return x


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, D, H / stride, W / stride)."""

    def __init__(
        self, pixels: int, widths: tuple[int, ...], layers: int, groups: int, codes: int
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(pixels, widths[0], 3, padding=1, bias=False)
        self.down_blocks = nn.ModuleList(
            Down(width, to, layers, groups, last=level == len(widths) - 1)
            for level, (width, to) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.mid_block = _blocks(widths[-1], widths[-1], layers, groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], codes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to latents."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid_block(x))))
        return out


class Decoder(nn.Module):
    """Codes (B, D, h, w) -> (B, C, h * stride, w * stride). `up_blocks` is in order of use."""

    def __init__(
        self, codes: int, widths: tuple[int, ...], layers: int, groups: int, pixels: int
    ) -> None:
        super().__init__()
        back = widths[::-1]
        self.conv_in = nn.Conv2d(codes, back[0], 3, padding=1)
        self.mid_block = _blocks(back[0], back[0], layers, groups)
        self.up_blocks = nn.ModuleList(
            Up(codes, width, to, layers, groups, last=level == len(back) - 1)
            for level, (width, to) in enumerate(zip((back[0], *back), back, strict=False))
        )
        self.norm_out = nn.GroupNorm(groups, back[-1], eps=EPS)
        self.conv_out = nn.Conv2d(back[-1], pixels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes to pixels."""
        style = _style(codes)
        x = self.mid_block(self.conv_in(codes))
        for block in self.up_blocks:
            x = block(x, style)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


def _style(codes: Tensor) -> Style:
    """Codes (B, D, h, w) -> their statistics over the picture; a single token has no spread."""
    flat = codes.flatten(2)
    mean = flat.mean(2)
    among = torch.sym_max(flat.shape[2] - 1, 1)
    variance = (flat - mean[..., None]).square().sum(2) / among
    return Style(mean, (variance + EPS).sqrt())


def _blocks(width: int, to: int, layers: int, groups: int) -> Stack:
    return Stack(Residual(to if number else width, to, groups) for number in range(layers))

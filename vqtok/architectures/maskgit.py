"""MaskGIT's VQGAN: convolutions without attention, means of 2 x 2 pixels on the way down.

As the published weights were trained in JAX, whose residual blocks have a peculiarity: where the
width changes, what passes by a block is not its input but a projection of its output.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.stack import Stack
from vqtok.errors import ConfigError

__all__ = ["Decoder", "Down", "Encoder", "Residual", "Up", "check", "maskgit"]


@ARCHITECTURES.register("maskgit")
def maskgit(
    *,
    in_channels: int,
    out_channels: int,
    block_out_channels: tuple[int, ...],
    layers_per_block: int,
    code_channels: int,
    norm_num_groups: int,
) -> Architecture:
    """One resolution for each entry of `block_out_channels`, halved between them.

    The encoder puts out as many channels as the last entry says; the decoder takes
    `code_channels`.
    """
    check(block_out_channels, layers_per_block, norm_num_groups)
    encoder = Encoder(in_channels, block_out_channels, layers_per_block, norm_num_groups)
    decoder = Decoder(
        code_channels, block_out_channels, layers_per_block, norm_num_groups, out_channels
    )
    stride = 2 ** (len(block_out_channels) - 1)
    return Architecture(encoder, decoder, (stride, stride))


def check(widths: tuple[int, ...], layers: int, groups: int) -> None:
    """Raises where there are no such networks."""
    if not widths:
        raise ConfigError("block_out_channels has a number for each resolution; got none")
    if layers < 1:
        raise ConfigError(f"layers_per_block is at least 1; got {layers}")
    for width in widths:
        if width < 1 or width % groups:
            raise ConfigError(
                f"each of block_out_channels is a multiple of norm_num_groups={groups}; got {width}"
            )


class Residual(nn.Module):
    """Two 3 x 3 convolutions, each after a norm and SiLU, beside the identity or a shortcut."""

    def __init__(self, width: int, to: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(width, groups)
        self.conv1 = _conv(width, to, bias=False)
        self.norm2 = _norm(to, groups)
        self.conv2 = _conv(to, to, bias=False)
        self.conv_shortcut = nn.Conv2d(to, to, 1, bias=False) if width != to else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, to, H, W)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        # Of the hidden features, as the published weights want it; x itself goes no further.
        beside = x if self.conv_shortcut is None else self.conv_shortcut(hidden)
        out: Tensor = hidden + beside
        return out


class Down(nn.Module):
    """The blocks of one resolution, and means of 2 x 2 pixels unless it is the last."""

    def __init__(self, blocks: Iterator[Residual], *, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(blocks)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D', H / 2, W / 2), or (B, D', H, W) at the last."""
        for block in self.resnets:
            x = block(x)
        return x if self.last else F.avg_pool2d(x, 2)


class Up(nn.Module):
    """The blocks of one resolution, then twice the size unless it is the last."""

    def __init__(self, blocks: Iterator[Residual], width: int, *, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(blocks)
        self.upsample_conv = None if last else _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D', 2 h, 2 w), or (B, D', h, w) at the last."""
        for block in self.resnets:
            x = block(x)
        if self.upsample_conv is None:
            return x
        out: Tensor = self.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Encoder(nn.Module):
    """(B, C, H, W) -> features (B, D, H / stride, W / stride)."""

    def __init__(self, pixels: int, widths: tuple[int, ...], layers: int, groups: int) -> None:
        super().__init__()
        self.conv_in = _conv(pixels, widths[0], bias=False)
        self.down_blocks = Stack(
            Down(_blocks(width, to, layers, groups), last=level == len(widths) - 1)
            for level, (width, to) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.mid_block = Stack(_blocks(widths[-1], widths[-1], layers, groups))
        self.norm_out = _norm(widths[-1], groups)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to features."""
        hidden = self.mid_block(self.down_blocks(self.conv_in(x)))
        return F.silu(self.norm_out(hidden))


class Decoder(nn.Module):
    """Codes (B, D, h, w) -> (B, C, h * stride, w * stride). `up_blocks` is in order of use."""

    def __init__(
        self, codes: int, widths: tuple[int, ...], layers: int, groups: int, pixels: int
    ) -> None:
        super().__init__()
        back = widths[::-1]
        self.conv_in = _conv(codes, back[0])
        self.mid_block = Stack(_blocks(back[0], back[0], layers, groups))
        self.up_blocks = Stack(
            Up(_blocks(width, to, layers, groups), to, last=level == len(back) - 1)
            for level, (width, to) in enumerate(zip((back[0], *back), back, strict=False))
        )
        self.norm_out = _norm(back[-1], groups)
        self.conv_out = _conv(back[-1], pixels)

    def forward(self, codes: Tensor) -> Tensor:
        """Vectors to pixels."""
        hidden = self.up_blocks(self.mid_block(self.conv_in(codes)))
        out: Tensor = self.conv_out(F.silu(self.norm_out(hidden)))
        return out


def _blocks(width: int, to: int, layers: int, groups: int) -> Iterator[Residual]:
    """The first changes the width."""
    yield Residual(width, to, groups)
    yield from (Residual(to, to, groups) for _ in range(layers - 1))


def _conv(width: int, to: int, *, bias: bool = True) -> nn.Conv2d:
    """3 x 3 and of stride 1, for which "same" padding is a pixel on each side."""
    return nn.Conv2d(width, to, 3, padding=1, bias=bias)


def _norm(width: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, width, eps=1e-6)

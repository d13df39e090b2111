"""A causal convolutional encoder and decoder of clips; a picture is a clip of one frame.

Frames are convolved one by one and, in turn with that, places over time: with the norms that
AutoencoderVidTok has, too, and far cheaper than convolutions over both. The first frame is a token
by itself and no token sees a later one, so clips of any length can come in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.causal import (
    EPS,
    CausalConv,
    Chain,
    ChannelNorm,
    FrameConv,
    Past,
    Residual,
    channels_last,
)
from vqtok.architectures.timesformer import Attention
from vqtok.errors import ConfigError

__all__ = ["Decoder", "Down", "Encoder", "FrameAttention", "Up", "cnn3d"]

SLIGHT = 0.1  # of residuals when training starts


@ARCHITECTURES.register("cnn3d")
def cnn3d(
    *,
    in_channels: int,
    out_channels: int,
    latent_channels: int,
    block_out_channels: Sequence[int],
    temporal_downsample: Sequence[bool],
    layers_per_block: int | Sequence[int],
    decoder_layers_per_block: int | Sequence[int] | None,
    mid_block_add_attention: bool,
) -> Architecture:
    """One resolution for each entry of `block_out_channels`, halved between them.

    temporal_downsample  of each halving, whether it halves time, too
    layers_per_block     residual blocks at each resolution, or at each one its own number, which
                         may be 0; `decoder_layers_per_block` by default the same
    """
    widths, halves = tuple(block_out_channels), tuple(temporal_downsample)
    if not widths or min(widths) < 1:
        raise ConfigError(
            f"block_out_channels has a width for each resolution, at least 1; got {list(widths)}"
        )
    if len(halves) != len(widths) - 1:
        raise ConfigError(
            f"between the {len(widths)} resolutions of block_out_channels there are "
            f"{len(widths) - 1} halvings, and temporal_downsample says of each whether it halves "
            f"time; got {list(halves)}"
        )
    down = _layers("layers_per_block", layers_per_block, len(widths))
    up = down
    if decoder_layers_per_block is not None:
        up = _layers("decoder_layers_per_block", decoder_layers_per_block, len(widths))
    middle = mid_block_add_attention
    encoder = Encoder(in_channels, latent_channels, _down(widths, halves, down, middle), widths)
    decoder = Decoder(out_channels, latent_channels, _up(widths, halves, up, middle), widths)
    for network in (encoder, decoder):
        _start(network)
    side = 2 ** len(halves)
    return Architecture(encoder, decoder, (2 ** sum(map(bool, halves)), side, side))


class Encoder(nn.Module):
    """(B, C, 1 + n * s, H, W) -> (B, D, 1 + n, h, w)."""

    def __init__(
        self, pixels: int, latents: int, blocks: Iterator[nn.Module], widths: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv_in = FrameConv(pixels, widths[0], 3, padding=1)
        self.blocks = Chain(blocks)
        self.norm_out = ChannelNorm(widths[-1], eps=EPS)
        self.conv_out = FrameConv(widths[-1], latents, 3, padding=1)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Pixels to latents; with a past, those of s more frames are one more of latents."""
        h = self.blocks(self.conv_in(channels_last(x)), past)
        latents: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return latents


class Decoder(nn.Module):
    """(B, D, 1 + n, h, w) -> (B, C, 1 + n * s, H, W)."""

    def __init__(
        self, pixels: int, latents: int, blocks: Iterator[nn.Module], widths: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv_in = FrameConv(latents, widths[-1], 3, padding=1)
        self.blocks = Chain(blocks)
        self.norm_out = ChannelNorm(widths[0], eps=EPS)
        self.conv_out = FrameConv(widths[0], pixels, 3, padding=1)

    def forward(self, latents: Tensor, past: Past | None = None) -> Tensor:
        """Latents to pixels; with a past, one more frame of latents gives s more of pixels."""
        h = self.blocks(self.conv_in(channels_last(latents)), past)
        pixels: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return pixels


class Down(nn.Module):
    """(B, C, T, H, W) -> (B, out, T, H / 2, W / 2), or of 1 + 2n frames 1 + n."""

    def __init__(self, channels: int, out: int, halves_time: bool) -> None:
        super().__init__()
        self.space = FrameConv(channels, out, 3, stride=2)
        self.time = CausalConv(out, out, stride=2) if halves_time else None

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Space first, then time."""
        x = self.space(F.pad(x, (0, 1, 0, 1)))
        out: Tensor = x if self.time is None else self.time(x, past)
        return out


class Up(nn.Module):
    """(B, C, T, H, W) -> (B, out, T, 2 H, 2 W), or of 1 + n frames 1 + 2n."""

    def __init__(self, channels: int, out: int, doubles_time: bool) -> None:
        super().__init__()
        self.space = FrameConv(channels, out, 3, padding=1)
        self.time = CausalConv(out, 2 * out) if doubles_time else None

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Space first, at half the frames, then time: two frames of each but the first."""
        x = self.space(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
        if self.time is None:
            return x
        is_start = past is None or self.time not in past.frames
        # To channels last, which is the order in memory.
        pairs = rearrange(self.time(x, past), "b (s c) t h w -> b (t s) h w c", s=2)
        frames: Tensor = pairs[:, 1:] if is_start else pairs
        return frames.movedim(-1, 1)


class FrameAttention(nn.Module):
    """Each place looks at all places of its frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.attention = Attention(channels, heads=1)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        b, _, t, h, w = x.shape
        tokens = rearrange(x, "b c t h w -> (b t) (h w) c")
        mixed = self.attention(self.norm(tokens))
        out: Tensor = x + rearrange(mixed, "(b t) (h w) c -> b c t h w", b=b, t=t, h=h, w=w)
        return out


def _down(
    widths: Sequence[int], halves: Sequence[bool], layers: Sequence[int], attention: bool
) -> Iterator[nn.Module]:
    """Blocks from the first resolution to the last, and the middle."""
    steps = [*zip(pairwise(widths), halves, strict=True), None]
    for width, count, step in zip(widths, layers, steps, strict=True):
        yield from _residuals(width, count)
        if step is not None:
            (channels, out), halves_time = step
            yield Down(channels, out, halves_time)
    yield from _middle(widths[-1], attention)


def _up(
    widths: Sequence[int], halves: Sequence[bool], layers: Sequence[int], attention: bool
) -> Iterator[nn.Module]:
    """The middle, and blocks from the last resolution back to the first."""
    yield from _middle(widths[-1], attention)
    steps = [*zip(pairwise(widths), halves, strict=True)]
    yield from _residuals(widths[-1], layers[-1])
    for count, ((out, channels), doubles_time) in zip(layers[-2::-1], reversed(steps), strict=True):
        yield Up(channels, out, doubles_time)
        yield from _residuals(out, count)


def _middle(width: int, attention: bool) -> Iterator[nn.Module]:
    yield from _residuals(width, 1)
    if attention:
        yield FrameAttention(width)
    yield from _residuals(width, 1)


def _residuals(width: int, count: int) -> Iterator[nn.Module]:
    """Over space and over time, in turns."""
    for _ in range(count):
        yield Residual(width, partial(FrameConv, width, width, 3, padding=1))
        yield Residual(width, partial(CausalConv, width, width))


def _start(network: nn.Module) -> None:
    """Convolutions that keep the variance of what they take, beside which residuals are slight.

    With torch's own, shrinking at each layer, constants soon outweigh what there is in the pixels,
    and training begins by making codes of nothing.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.get_parameter("bias"))
    for module in network.modules():
        if isinstance(module, Residual):
            module.conv2.get_parameter("weight").data.mul_(SLIGHT)


def _layers(name: str, given: int | Sequence[int], levels: int) -> tuple[int, ...]:
    """A number for each resolution."""
    layers = (given,) * levels if isinstance(given, int) else tuple(given)
    if len(layers) != levels or min(layers) < 0:
        raise ConfigError(
            f"{name} is a number of at least 0, or one for each of {levels} resolutions; got "
            f"{given if isinstance(given, int) else list(given)}"
        )
    return layers

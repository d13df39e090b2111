"""Emu3's encoder and decoder of clips (arXiv 2409.18869): `cnn` on each frame, then over time.

All time is behind the encoder's last convolution and before the decoder's first, on few channels
and small grids. No output sees a later frame, but tokens are whole: the first stands for as many
frames as any other. The decoder's norms see the codes, as those of `cnn` with norm_type "spatial".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.causal import Past
from vqtok.errors import ConfigError

__all__ = ["BatchNorm", "Decoder", "Encoder", "TimeBlock", "TimeConv", "emu3"]

EPS = 1e-5


@ARCHITECTURES.register("emu3")
def emu3(
    *,
    in_channels: int,
    out_channels: int,
    down_block_types: Sequence[str],
    up_block_types: Sequence[str],
    block_out_channels: Sequence[int],
    layers_per_block: int,
    latent_channels: int,
    norm_num_groups: int,
    temporal_stride: int,
) -> Architecture:
    """The networks of `cnn`, and so many halvings of time that `temporal_stride` is their product.

    layers_per_block  residual blocks at each resolution, and over time
    """
    halvings = temporal_stride.bit_length() - 1
    if temporal_stride < 1 or temporal_stride != 1 << halvings:
        raise ConfigError(f"temporal_stride is a power of two; got {temporal_stride}")
    frames = ARCHITECTURES["cnn"](
        in_channels=in_channels,
        out_channels=out_channels,
        down_block_types=tuple(down_block_types),
        up_block_types=tuple(up_block_types),
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        act_fn="silu",
        latent_channels=latent_channels,
        norm_num_groups=norm_num_groups,
        norm_type="spatial",
        mid_block_add_attention=True,
    )
    over_time = latent_channels, halvings, layers_per_block
    return Architecture(
        Encoder(frames.encoder, *over_time),
        Decoder(frames.decoder, *over_time),
        (temporal_stride, *frames.stride),
    )


class TimeConv(nn.Conv3d):
    """A convolution that sees frames up to its own: before the first frame of a clip there is none.

    It sees two frames before its own; with stride 2, an output belongs to a pair of frames.
    """

    def __init__(self, channels: int, out: int, side: int = 3, stride: int = 1) -> None:
        self.back = 2
        kernel = (self.back + stride, side, side)
        super().__init__(
            channels, out, kernel, stride=(stride, 1, 1), padding=(0, side // 2, side // 2)
        )

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, out, T / stride, H, W)."""
        before = past.frames.get(self) if past else None
        if before is None:
            before = x.new_zeros(*x.shape[:2], self.back, *x.shape[3:])
        frames = torch.cat([before, x], 2)
        if past:
            past.frames[self] = frames[:, :, -self.back :].clone()
        return super().forward(frames)


class BatchNorm(nn.Module):
    """BatchNorm by the statistics that it came with, in training as well.

    Moving them would be a change of state in a forward, and with it of what every codebook sees.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=EPS)


class TimeBlock(nn.Module):
    """Two convolutions over time and space, each after a norm and SiLU, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = BatchNorm(channels)
        self.conv1 = TimeConv(channels, channels)
        self.norm2 = BatchNorm(channels)
        self.conv2 = TimeConv(channels, channels)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        h = self.conv1(F.silu(self.norm1(x)), past)
        out: Tensor = x + self.conv2(F.silu(self.norm2(h)), past)
        return out


class Encoder(nn.Module):
    """(B, C, T, H, W) -> (B, D, t, h, w)."""

    def __init__(self, frames: nn.Module, channels: int, halvings: int, blocks: int) -> None:
        super().__init__()
        self.frames = frames
        self.time_convs = nn.ModuleList(
            TimeConv(channels, channels, stride=2) for _ in range(halvings)
        )
        self.time_blocks = nn.ModuleList(TimeBlock(channels) for _ in range(blocks))

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Pixels to latents; with a past, those of the frames that come next."""
        h: Tensor = self.frames(rearrange(x, "b c t h w -> (b t) c h w"))
        h = rearrange(h, "(b t) c h w -> b c t h w", b=x.shape[0])
        for conv in self.time_convs:
            h = F.silu(conv(h, past))
        for block in self.time_blocks:
            h = block(h, past)
        return h


class Decoder(nn.Module):
    """(B, D, t, h, w), and the codes' vectors in the same shape -> (B, C, T, H, W)."""

    def __init__(self, frames: nn.Module, channels: int, doublings: int, blocks: int) -> None:
        super().__init__()
        self.time_blocks = nn.ModuleList(TimeBlock(channels) for _ in range(blocks))
        self.time_convs = nn.ModuleList(TimeConv(channels, channels) for _ in range(doublings))
        self.frames = frames

    def forward(self, latents: Tensor, codes: Tensor, past: Past | None = None) -> Tensor:
        """Latents and codes go the same way through time, and meet in the frames' norms."""
        both = torch.cat([latents, codes])
        for block in self.time_blocks:
            both = block(both, past)
        for conv in self.time_convs:
            both = F.silu(conv(both.repeat_interleave(2, 2), past))
        h, seen = rearrange(both, "(two b) c t h w -> two (b t) c h w", two=2)
        pixels: Tensor = self.frames(h, seen)
        return rearrange(pixels, "(b t) c h w -> b c t h w", b=latents.shape[0])

"""Layers of networks that take a clip from its first frame on, whole or piece by piece.

All take features (B, C, T, H, W) and, where a clip comes in pieces, the `Past` of what came before.
No layer looks at a later frame, and norms look at one position alone, so that a piece comes out as
it would within the whole. Memory has the channels last, where planes for convolutions are views.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures.stack import Stack

__all__ = [
    "CausalConv",
    "Chain",
    "ChannelNorm",
    "FrameConv",
    "Past",
    "Residual",
    "channels_last",
]

EPS = 1e-6
KERNEL = 3


class Past:
    """The last frames that each layer has seen of one clip, or of one batch of clips.

    It is handed from piece to piece, and to one network only; no module keeps any of it. It is no
    mapping, for accelerate's hooks copy those on their way into a module.
    """

    def __init__(self) -> None:
        self.frames: dict[nn.Module, Tensor] = {}


class CausalConv(nn.Conv2d):
    """A convolution over the frames of each place: an output frame sees its own and two before.

    Before the first frame of a clip there is that frame again. With a stride s, output frame n is
    the one at input frame s * n: of 1 + s * n frames 1 + n remain.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        # Frames are the rows of a plane, and its places the columns: on CPUs the fastest of ways.
        super().__init__(channels, out, (KERNEL, 1), stride=(stride, 1))
        self.kept = KERNEL - stride

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, out, T', H, W)."""
        height = x.shape[3]
        planes = rearrange(self._after(_last(x), past), "b t h w c -> b t (h w) c")
        out = _last(super().forward(_first(planes)))
        return _first(rearrange(out, "b t (h w) c -> b t h w c", h=height))

    def _after(self, x: Tensor, past: Past | None) -> Tensor:
        """Frames (B, T, H, W, C) after those before them; the past gets what comes next needs."""
        before = past.frames.get(self) if past else None
        if before is None:
            before = x[:, :1].expand(-1, KERNEL - 1, -1, -1, -1)
        frames = torch.cat([before, x], 1)
        if past:
            # A copy: a view would hold on to all of the frames.
            past.frames[self] = frames[:, frames.shape[1] - self.kept :].clone()
        return frames


class FrameConv(nn.Conv2d):
    """A convolution of each frame by itself."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, out, T, H', W')."""
        batch = x.shape[0]  # not len(), which is a constant to whoever exports
        frames = rearrange(_last(x), "b t h w c -> (b t) h w c")
        out = _last(super().forward(_first(frames)))
        return _first(rearrange(out, "(b t) h w c -> b t h w c", b=batch))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position, which lie side by side in memory then."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *grid) -> the same shape."""
        return _first(super().forward(_last(x)))


class Residual(nn.Module):
    """Two convolutions of one kind, each after a norm and SiLU, beside the identity."""

    def __init__(self, channels: int, conv: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels, eps=EPS)
        self.conv1 = conv()
        self.norm2 = ChannelNorm(channels, eps=EPS)
        self.conv2 = conv()

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        h = self.conv1(F.silu(self.norm1(x)), past)
        out: Tensor = x + self.conv2(F.silu(self.norm2(h)), past)
        return out


class Chain(Stack):
    """Blocks one after another; gradient checkpointing is for clips that come whole."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """(B, C, T, H, W) -> whatever the blocks give."""
        if past is None:
            return super().forward(x)
        for block in self:
            x = block(x, past)
        return x


def _last(x: Tensor) -> Tensor:
    """(B, C, ...) -> (B, ..., C), the order in memory."""
    return x.movedim(1, -1)


def _first(x: Tensor) -> Tensor:
    """(B, ..., C) -> (B, C, ...)."""
    return x.movedim(-1, 1)


def channels_last(x: Tensor) -> Tensor:
    """The same (B, C, T, H, W), with the channels of a position side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)

"""Norms on latents with the channels first."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ChannelNorm"]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each token of (B, D, *grid)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, *grid) -> the same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1).contiguous()

"""Clips by divided space-time attention (TimeSformer), frame by frame in patches.

The rotation paper trained such an autoencoder on BAIR and UCF-101 and published no code for it. A
block computes what a layer of transformers' `TimesformerModel` does, without a class token: there
is nothing to classify, and each token must come back as a patch.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.positions import plane, waves
from vqtok.architectures.stack import Stack
from vqtok.errors import ConfigError

__all__ = ["Attention", "Block", "Decoder", "Encoder", "Trunk", "positions", "timesformer"]

EPS = 1e-6
# GPU kernels of attention start one block a sequence, on an axis that ends at 65,535.
SEQUENCES = 1 << 15
# Of positions. Tokens start about as large; beside 1 they would say little but where they are.
AMPLITUDE = 0.1


@ARCHITECTURES.register("timesformer")
def timesformer(
    *,
    in_channels: int,
    out_channels: int,
    latent_channels: int,
    patch_size: int,
    depth: int,
    heads: int,
    mlp_dim: int,
    sample_size: int,
    sample_frames: int,
) -> Architecture:
    """`depth` blocks of `latent_channels` dimensions each way; a token a patch and frame.

    sample_size, sample_frames  the clips that it is trained on: positions in larger ones are
                                squeezed into the range of these
    """
    if min(patch_size, depth, heads, mlp_dim, sample_size, sample_frames) < 1:
        raise ConfigError(
            "patch_size, depth, heads, mlp_dim, sample_size and sample_frames are at least 1; got "
            f"{patch_size}, {depth}, {heads}, {mlp_dim}, {sample_size} and {sample_frames}"
        )
    if latent_channels % 4 or latent_channels % heads:
        raise ConfigError(
            f"latent_channels is a multiple of 4, for positions, and of heads={heads}; got "
            f"{latent_channels}"
        )
    side = max(1, sample_size // patch_size)

    def trunk() -> Trunk:
        return Trunk(latent_channels, depth, heads, mlp_dim, (sample_frames, side))

    encoder = Encoder(in_channels, patch_size, latent_channels, trunk())
    decoder = Decoder(out_channels, patch_size, latent_channels, trunk())
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return Architecture(encoder, decoder, (1, patch_size, patch_size))


class Encoder(nn.Module):
    """(B, C, T, H, W) -> (B, D, T, H / patch, W / patch)."""

    def __init__(self, channels: int, patch: int, dim: int, trunk: Trunk) -> None:
        super().__init__()
        self.patch = patch
        self.from_patch = nn.Linear(channels * patch**2, dim)
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to latents."""
        p = self.patch
        patches = rearrange(x, "b c t (h p) (w q) -> b t h w (c p q)", p=p, q=p)
        tokens: Tensor = self.trunk(self.from_patch(patches))
        return rearrange(tokens, "b t h w d -> b d t h w")


class Decoder(nn.Module):
    """(B, D, t, h, w) -> (B, C, t, h * patch, w * patch)."""

    def __init__(self, channels: int, patch: int, dim: int, trunk: Trunk) -> None:
        super().__init__()
        self.patch = patch
        self.trunk = trunk
        self.to_patch = nn.Linear(dim, channels * patch**2)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents to pixels."""
        p = self.patch
        tokens = self.trunk(rearrange(latents, "b d t h w -> b t h w d"))
        patches: Tensor = self.to_patch(tokens)
        return rearrange(patches, "b t h w (c p q) -> b c t (h p) (w q)", p=p, q=p)


class Trunk(nn.Module):
    """Tokens (B, t, h, w, D) -> the same: positions, blocks and a norm.

    trained  how many frames, and tokens along one side, it is trained on
    """

    def __init__(
        self, dim: int, depth: int, heads: int, mlp_dim: int, trained: tuple[int, int]
    ) -> None:
        super().__init__()
        self.trained = trained
        self.blocks = Stack(Block(dim, heads, mlp_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Each token looks at all frames of its place and all places of its frame, in turns."""
        mixed = self.blocks(tokens + positions(tokens, self.trained))
        normed: Tensor = self.norm(mixed)
        return normed


class Block(nn.Module):
    """Attention over time, over space, and an MLP on tokens (B, t, h, w, D), each after a norm."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.temporal_norm = nn.LayerNorm(dim, eps=EPS)
        self.temporal_attention = Attention(dim, heads)
        self.temporal_dense = nn.Linear(dim, dim)
        self.spatial_norm = nn.LayerNorm(dim, eps=EPS)
        self.spatial_attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, h, w, D) -> the same shape."""
        b, t, h, w, _ = x.shape
        through_time = rearrange(self.temporal_norm(x), "b t h w d -> (b h w) t d")
        mixed = self.temporal_dense(self.temporal_attention(through_time))
        x = x + rearrange(mixed, "(b h w) t d -> b t h w d", b=b, h=h, w=w)
        across = rearrange(self.spatial_norm(x), "b t h w d -> (b t) (h w) d")
        mixed = self.spatial_attention(across)
        x = x + rearrange(mixed, "(b t) (h w) d -> b t h w d", b=b, t=t, h=h, w=w)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Attention(nn.Module):
    """Self-attention of several heads on sequences (N, L, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, L, D)."""
        split = rearrange(self.qkv(x), "n l (s a d) -> s n a l d", s=3, a=self.heads)
        out: Tensor = self.out(rearrange(_attend(split), "n a l d -> n l (a d)"))
        return out


def _attend(split: Tensor) -> Tensor:
    """Queries, keys and values (3, N, A, L, D) -> (N, A, L, D)."""
    if split.shape[1] > SEQUENCES:
        return torch.cat([_attend(part) for part in split.split(SEQUENCES, dim=1)])
    return F.scaled_dot_product_attention(*split)


def positions(tokens: Tensor, trained: tuple[int, int]) -> Tensor:
    """What is added to tokens (B, t, h, w, D): (t, h, w, D), the frame's and the place's."""
    t, h, w, dim = tokens.shape[1:]
    time = waves(t, trained[0], dim, tokens.device)[:, None]
    place = plane(h, w, trained[1], dim, tokens.device)
    table = AMPLITUDE * (time + place)
    return table.view(t, h, w, dim).to(tokens.dtype)

"""The transformers over patches of BSQ-ViT (arXiv 2406.07548), for pictures.

They differ from those of ViT-VQGAN in what stands around the blocks: positions are learned, tokens
are normalised before the blocks, too, and a layer with tanh comes before the pixels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.stack import Stack
from vqtok.errors import ConfigError

__all__ = ["Attention", "Block", "Decoder", "Encoder", "Trunk", "bsq_vit"]

SPREAD = 0.02  # of weights and positions to begin with


@ARCHITECTURES.register("bsq_vit")
def bsq_vit(
    *,
    in_channels: int,
    out_channels: int,
    patch_size: int,
    sample_size: int,
    latent_channels: int,
    depth: int,
    heads: int,
    mlp_dim: int,
    output_dim: int,
) -> Architecture:
    """A token a patch, `latent_channels` wide in the encoder and in the decoder.

    sample_size  the pictures that it is trained on: the positions in others are interpolated
    """
    for name, value in list(locals().items()):
        if value < 1:
            raise ConfigError(f"{name} is at least 1; got {value}")
    if latent_channels % heads:
        raise ConfigError(
            f"heads share latent_channels evenly; got heads={heads} and "
            f"latent_channels={latent_channels}"
        )
    side = max(1, sample_size // patch_size)
    there, back = (Trunk(latent_channels, depth, heads, mlp_dim, side) for _ in range(2))
    encoder = Encoder(in_channels, patch_size, latent_channels, there)
    decoder = Decoder(out_channels, patch_size, latent_channels, output_dim, back)
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Architecture(encoder, decoder, (patch_size, patch_size))


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, D, H / patch, W / patch)."""

    def __init__(self, pixels: int, patch: int, dim: int, trunk: Trunk) -> None:
        super().__init__()
        self.from_patch = nn.Conv2d(pixels, dim, patch, stride=patch, bias=False)
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to features."""
        out: Tensor = self.trunk(self.from_patch(x))
        return out


class Decoder(nn.Module):
    """(B, D, h, w) -> (B, C, h * patch, w * patch)."""

    def __init__(self, pixels: int, patch: int, dim: int, output_dim: int, trunk: Trunk) -> None:
        super().__init__()
        self.patch = patch
        self.trunk = trunk
        self.output = nn.Linear(dim, output_dim)
        self.to_patch = nn.Linear(output_dim, pixels * patch * patch)

    def forward(self, features: Tensor) -> Tensor:
        """Features to pixels."""
        tokens = self.trunk(features).movedim(1, -1)
        flat = self.to_patch(self.output(tokens).tanh())
        how = "b h w (c p q) -> b c (h p) (w q)"
        out: Tensor = rearrange(flat, how, p=self.patch, q=self.patch)
        return out


class Trunk(nn.Module):
    """Features (B, D, h, w) -> the same shape: positions, a norm, blocks and a norm.

    side  of the grid that it is trained on, in tokens
    """

    def __init__(self, dim: int, depth: int, heads: int, mlp_dim: int, side: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(dim, side, side))
        nn.init.normal_(self.positions, std=SPREAD)
        self.norm_in = nn.LayerNorm(dim)
        self.blocks = Stack(Block(dim, heads, mlp_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Each token looks at all others."""
        h, w = x.shape[2:]
        # Of the same size these are the positions themselves, to the last bit.
        places = F.interpolate(self.positions[None], (h, w), mode="bilinear", align_corners=False)
        tokens = self.norm_in(rearrange(x + places.to(x.dtype), "b d h w -> b (h w) d"))
        out: Tensor = self.norm(self.blocks(tokens))
        return rearrange(out, "b (h w) d -> b d h w", h=h)


class Block(nn.Module):
    """Attention and an MLP on tokens (B, L, D), each after a norm and beside the identity."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Attention(nn.Module):
    """Self-attention of heads that share D evenly."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        split = rearrange(self.qkv(x), "b l (s a d) -> s b a l d", s=3, a=self.heads)
        mixed = F.scaled_dot_product_attention(*split)
        out: Tensor = self.out(rearrange(mixed, "b a l d -> b l (a d)"))
        return out

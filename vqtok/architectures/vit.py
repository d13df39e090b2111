"""Pictures by transformers over patches (ViT-VQGAN), as enhancing-transformers trains them."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures.positions import plane
from vqtok.architectures.stack import Stack
from vqtok.errors import ConfigError

__all__ = ["Attention", "Block", "Decoder", "Encoder", "Trunk", "vit"]


@ARCHITECTURES.register("vit")
def vit(
    *,
    in_channels: int,
    out_channels: int,
    patch_size: int,
    sample_size: int,
    latent_channels: int,
    depth: int,
    heads: int,
    mlp_dim: int,
    decoder_channels: int,
    decoder_depth: int,
    decoder_heads: int,
    decoder_mlp_dim: int,
    dim_head: int,
) -> Architecture:
    """A token a patch, `latent_channels` wide in the encoder, `decoder_channels` in the decoder.

    sample_size  the pictures that it is trained on: positions in larger ones are squeezed into the
                 range of these
    """
    for name, value in list(locals().items()):
        if value < 1:
            raise ConfigError(f"{name} is at least 1; got {value}")
    for name, width in (
        ("latent_channels", latent_channels),
        ("decoder_channels", decoder_channels),
    ):
        if width % 4:
            raise ConfigError(f"{name} is a multiple of 4, for positions; got {width}")
    side = max(1, sample_size // patch_size)
    there = Trunk(latent_channels, depth, heads, dim_head, mlp_dim, side)
    back = Trunk(decoder_channels, decoder_depth, decoder_heads, dim_head, decoder_mlp_dim, side)
    encoder = Encoder(in_channels, patch_size, latent_channels, there)
    decoder = Decoder(out_channels, patch_size, decoder_channels, back)
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(module.weight.flatten(1))  # a patch is one vector
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Architecture(encoder, decoder, (patch_size, patch_size))


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, D, H / patch, W / patch)."""

    def __init__(self, pixels: int, patch: int, dim: int, trunk: Trunk) -> None:
        super().__init__()
        self.from_patch = nn.Conv2d(pixels, dim, patch, stride=patch)
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to features."""
        out: Tensor = self.trunk(self.from_patch(x))
        return out


class Decoder(nn.Module):
    """(B, D, h, w) -> (B, C, h * patch, w * patch)."""

    def __init__(self, pixels: int, patch: int, dim: int, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.to_patch = nn.ConvTranspose2d(dim, pixels, patch, stride=patch)

    def forward(self, features: Tensor) -> Tensor:
        """Features to pixels."""
        out: Tensor = self.to_patch(self.trunk(features))
        return out


class Trunk(nn.Module):
    """Features (B, D, h, w) -> the same shape: positions, blocks and a norm.

    trained  the side of the grid that it is trained on, in tokens
    """

    def __init__(
        self, dim: int, depth: int, heads: int, dim_head: int, mlp_dim: int, trained: int
    ) -> None:
        super().__init__()
        self.trained = trained
        self.blocks = Stack(Block(dim, heads, dim_head, mlp_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Each token looks at all others."""
        dim, h, w = x.shape[1:]
        places = plane(h, w, self.trained, dim, x.device).to(x.dtype)
        tokens = rearrange(x, "b d h w -> b (h w) d") + places
        out: Tensor = self.norm(self.blocks(tokens))
        return rearrange(out, "b (h w) d -> b d h w", h=h)


class Block(nn.Module):
    """Attention and an MLP on tokens (B, L, D), each after a norm and beside the identity."""

    def __init__(self, dim: int, heads: int, dim_head: int, mlp_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dim_head)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.Tanh(), nn.Linear(mlp_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Attention(nn.Module):
    """Self-attention of several heads, each `dim_head` wide whatever D is."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.out = nn.Linear(heads * dim_head, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        split = rearrange(self.qkv(x), "b l (s a d) -> s b a l d", s=3, a=self.heads)
        mixed = F.scaled_dot_product_attention(*split)
        out: Tensor = self.out(rearrange(mixed, "b a l d -> b l (a d)"))
        return out

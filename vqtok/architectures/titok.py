"""TiTok: a picture as a short sequence of tokens that belong to no place.

A transformer sees the patches of a picture and so many learned vectors beside them. Those come out
as the latents; the patches are left behind. Another transformer sees the codes beside an empty
picture, and fills it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.architectures import maskgit as convolutions
from vqtok.architectures.stack import Stack
from vqtok.architectures.timesformer import Attention
from vqtok.errors import ConfigError, InputError

__all__ = [
    "Block",
    "Decoder",
    "Encoder",
    "Patches",
    "Proxy",
    "ProxyCodes",
    "Trunk",
    "check_divides",
    "titok",
]

MLP_RATIO = 4


class Proxy(NamedTuple):
    """The codes of another tokenizer, and the convolutions of `maskgit` that make pixels of them.

    codes     how many there are
    channels  their width
    """

    codes: int
    channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int


@ARCHITECTURES.register("titok")
def titok(
    *,
    in_channels: int,
    out_channels: int,
    sample_size: int,
    num_latent_tokens: int,
    patch_size: int,
    latent_channels: int,
    depth: int,
    heads: int,
    decoder_patch_size: int,
    decoder_channels: int,
    decoder_depth: int,
    decoder_heads: int,
    proxy: Proxy | None,
) -> Architecture:
    """Pictures of `sample_size` on each side, and of no other size.

    latent_channels  width of the encoder, and of what it puts out; `decoder_channels`, of what the
                     decoder takes and is
    patch_size       pixels a patch, along one side, in the encoder
    proxy            the decoder gives a distribution over these codes a patch, and their mean goes
                     through these convolutions; None: it gives pixels
    """
    for name, value in list(locals().items()):
        if name != "proxy" and value < 1:
            raise ConfigError(f"{name} is at least 1; got {value}")
    check_divides("sample_size", sample_size, "patch_size", patch_size)
    check_divides("sample_size", sample_size, "decoder_patch_size", decoder_patch_size)
    check_divides("latent_channels", latent_channels, "heads", heads)
    check_divides("decoder_channels", decoder_channels, "decoder_heads", decoder_heads)
    side, back = sample_size // patch_size, sample_size // decoder_patch_size
    there = Trunk(latent_channels, depth, heads, side, num_latent_tokens)
    encoder = Encoder(in_channels, patch_size, there, folded=proxy is not None)
    trunk = Trunk(decoder_channels, decoder_depth, decoder_heads, back, num_latent_tokens)
    head: nn.Module = Patches(decoder_channels, decoder_patch_size, out_channels)
    if proxy is not None:
        head = ProxyCodes(decoder_channels, decoder_patch_size, out_channels, proxy)
    return Architecture(encoder, Decoder(trunk, head), (sample_size, sample_size))


def check_divides(name: str, value: int, by: str, step: int) -> None:
    """Raises where `value` is no multiple of `step`."""
    if value % step:
        raise ConfigError(f"{name} is a multiple of {by}={step}; got {value}")


class Encoder(nn.Module):
    """(B, C, size, size) -> (B, D, L).

    folded  as the first published models have it: the tokens (L, D) are read as (D, L) without
            being transposed, so that a latent is made of pieces of several tokens
    """

    def __init__(self, pixels: int, patch: int, trunk: Trunk, *, folded: bool) -> None:
        super().__init__()
        length, dim = trunk.latent_positions.shape
        self.from_patch = nn.Conv2d(pixels, dim, patch, stride=patch)
        _start(self.from_patch)
        self.latent_tokens = _vectors(length, dim)
        self.trunk = trunk
        self.folded = folded

    def forward(self, x: Tensor) -> Tensor:
        """Pixels to features."""
        patches = rearrange(self.from_patch(x), "b d h w -> b (h w) d")
        latents = self.latent_tokens.expand(x.shape[0], -1, -1)
        tokens: Tensor = self.trunk(patches, latents)[1]
        if self.folded:
            return tokens.reshape(x.shape[0], tokens.shape[2], tokens.shape[1])
        return rearrange(tokens, "b l d -> b d l")


class Decoder(nn.Module):
    """(B, D, L) -> (B, C, size, size)."""

    def __init__(self, trunk: Trunk, head: nn.Module) -> None:
        super().__init__()
        self.mask_token = _vectors(1, trunk.latent_positions.shape[1])
        self.trunk = trunk
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Features to pixels."""
        side = self.trunk.side
        empty = self.mask_token.expand(features.shape[0], side * side, -1)
        patches = self.trunk(empty, rearrange(features, "b d l -> b l d"))[0]
        out: Tensor = self.head(rearrange(patches, "b (h w) d -> b d h w", h=side))
        return out


class Trunk(nn.Module):
    """A picture of side x side tokens and a sequence of L: positions, blocks and norms."""

    def __init__(self, dim: int, depth: int, heads: int, side: int, length: int) -> None:
        super().__init__()
        self.side = side
        self.class_token = _vectors(1, dim)
        self.positions = _vectors(1 + side * side, dim)  # the class token's, then by rows
        self.latent_positions = _vectors(length, dim)
        self.norm_in = nn.LayerNorm(dim)
        self.blocks = Stack(Block(dim, heads) for _ in range(depth))
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, patches: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(B, side * side, D) and (B, L, D) -> the same shapes; each token looks at all others."""
        count, length = self.side**2, len(self.latent_positions)
        if (patches.shape[1], latents.shape[1]) != (count, length):
            raise InputError(
                f"this model takes pictures of {count} patches and {length} tokens; got "
                f"{patches.shape[1]} patches and {latents.shape[1]} tokens"
            )
        first = self.class_token.expand(patches.shape[0], -1, -1)
        picture = torch.cat([first, patches], 1) + self.positions
        tokens = torch.cat([picture, latents + self.latent_positions], 1)
        mixed = self.norm_out(self.blocks(self.norm_in(tokens)))
        return mixed[:, 1 : 1 + count], mixed[:, 1 + count :]


class Block(nn.Module):
    """Attention and an MLP on tokens (B, L, D), each after a norm and beside the identity."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        inner = MLP_RATIO * dim
        self.mlp = nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))
        _start(self.attention.out, self.mlp[0], self.mlp[2])
        nn.init.xavier_uniform_(self.attention.qkv.weight)
        nn.init.zeros_(self.attention.qkv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Patches(nn.Module):
    """Features (B, D, h, w) -> pixels (B, C, h * patch, w * patch)."""

    def __init__(self, dim: int, patch: int, pixels: int) -> None:
        super().__init__()
        self.patch = patch
        self.to_patch = nn.Conv2d(dim, patch * patch * pixels, 1)
        self.conv_out = nn.Conv2d(pixels, pixels, 3, padding=1)
        _start(self.to_patch, self.conv_out)

    def forward(self, features: Tensor) -> Tensor:
        """Each feature makes a patch; a convolution goes over their seams."""
        p = self.patch
        patches = rearrange(self.to_patch(features), "b (p q c) h w -> b c (h p) (w q)", p=p, q=p)
        out: Tensor = self.conv_out(patches)
        return out


class ProxyCodes(nn.Module):
    """Features (B, D, h, w) -> the mean of another tokenizer's codes -> pixels (B, C, H, W)."""

    def __init__(self, dim: int, patch: int, pixels: int, proxy: Proxy) -> None:
        super().__init__()
        widths, layers, groups = proxy[2:]
        convolutions.check(widths, layers, groups)
        if patch != 2 ** (len(widths) - 1):
            raise ConfigError(
                f"with {len(widths)} block_out_channels a proxy code is "
                f"{2 ** (len(widths) - 1)} pixels wide, and so is a patch of the decoder; got "
                f"decoder_patch_size={patch}"
            )
        self.to_codes = nn.Sequential(
            nn.Conv2d(dim, 2 * dim, 1), nn.Tanh(), nn.Conv2d(2 * dim, proxy.codes, 1)
        )
        _start(self.to_codes[0], self.to_codes[2])
        # A product with the table of codes, transposed.
        self.mean = nn.Conv2d(proxy.codes, proxy.channels, 1, bias=False)
        self.to_pixels = convolutions.Decoder(proxy.channels, widths, layers, groups, pixels)

    def forward(self, features: Tensor) -> Tensor:
        """A mean, not a choice, so that a gradient passes."""
        out: Tensor = self.to_pixels(self.mean(self.to_codes(features).softmax(1)))
        return out


def _vectors(count: int, dim: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(count, dim) * dim**-0.5)


def _start(*layers: nn.Module) -> None:
    """As TiTok's layers start."""
    for layer in layers:
        nn.init.trunc_normal_(layer.get_parameter("weight"), std=0.02)
        nn.init.zeros_(layer.get_parameter("bias"))

"""The convolutional encoder and decoder of VQGAN and latent diffusion, on diffusers' blocks."""

from __future__ import annotations

from diffusers.models.autoencoders.vae import Decoder, Encoder

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.errors import ConfigError

__all__ = ["cnn"]

SPATIAL_GROUPS = 32  # diffusers' SpatialNorm has no setting for it


@ARCHITECTURES.register("cnn")
def cnn(
    *,
    in_channels: int,
    out_channels: int,
    down_block_types: tuple[str, ...],
    up_block_types: tuple[str, ...],
    block_out_channels: tuple[int, ...],
    layers_per_block: int,
    act_fn: str,
    latent_channels: int,
    norm_num_groups: int,
    norm_type: str,
    mid_block_add_attention: bool,
) -> Architecture:
    """One resolution for each entry of `block_out_channels`, halved between them."""
    levels = len(block_out_channels)
    if len(down_block_types) != levels or len(up_block_types) != levels:
        raise ConfigError(
            f"block_out_channels names {levels} resolutions, so there are {levels} "
            f"down_block_types and up_block_types; got {len(down_block_types)} and "
            f"{len(up_block_types)}"
        )
    for channels in block_out_channels:
        if channels % norm_num_groups:
            raise ConfigError(
                f"each of block_out_channels is a multiple of norm_num_groups="
                f"{norm_num_groups}; got {channels}"
            )
        if norm_type == "spatial" and channels % SPATIAL_GROUPS:
            raise ConfigError(
                "with norm_type='spatial' each of block_out_channels is a multiple of "
                f"{SPATIAL_GROUPS}; got {channels}"
            )
    if norm_type not in ("group", "spatial"):
        raise ConfigError(f"norm_type is 'group' or 'spatial'; got {norm_type!r}")
    encoder = Encoder(
        in_channels=in_channels,
        out_channels=latent_channels,
        down_block_types=down_block_types,
        block_out_channels=block_out_channels,
        layers_per_block=layers_per_block,
        norm_num_groups=norm_num_groups,
        act_fn=act_fn,
        double_z=False,
        mid_block_add_attention=mid_block_add_attention,
    )
    decoder = Decoder(
        in_channels=latent_channels,
        out_channels=out_channels,
        up_block_types=up_block_types,
        block_out_channels=block_out_channels,
        layers_per_block=layers_per_block,
        norm_num_groups=norm_num_groups,
        act_fn=act_fn,
        norm_type=norm_type,
        mid_block_add_attention=mid_block_add_attention,
    )
    stride = 2 ** (levels - 1)
    return Architecture(encoder, decoder, (stride, stride))

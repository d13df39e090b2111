"""The convolutional encoder and decoder of VQGAN and latent diffusion, on diffusers' blocks."""

from __future__ import annotations

from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES, Architecture
from vqtok.errors import ConfigError

__all__ = ["NO_DECODER", "NoDecoder", "cnn"]

NO_DECODER = (
    "this model has no decoder (up_block_types is empty): it makes ids, and pictures of them only "
    "with weights that it was not given. Of Chameleon's tokenizer the original vqgan.ckpt has both"
)
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
    """One resolution for each entry of `block_out_channels`, halved between them.

    Without up blocks there is no decoder.
    """
    levels = len(block_out_channels)
    _check_blocks(levels, down_block_types, up_block_types)
    _check_norms(block_out_channels, norm_num_groups, norm_type)
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
    stride = 2 ** (levels - 1)
    if not up_block_types:
        return Architecture(encoder, NoDecoder(), (stride, stride))
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
    return Architecture(encoder, decoder, (stride, stride))


class NoDecoder(nn.Module):
    """In the place of a decoder that nobody published: ids are made, and not decoded."""

    def forward(self, vectors: Tensor, latents: Tensor | None = None) -> Tensor:
        """Raises `ConfigError`."""
        raise ConfigError(NO_DECODER)


def _check_blocks(levels: int, down: tuple[str, ...], up: tuple[str, ...]) -> None:
    if len(down) != levels or len(up) not in (0, levels):
        raise ConfigError(
            f"block_out_channels names {levels} resolutions, so there are {levels} "
            f"down_block_types and up_block_types; got {len(down)} and {len(up)}"
        )


def _check_norms(widths: tuple[int, ...], groups: int, norm_type: str) -> None:
    for channels in widths:
        if channels % groups:
            raise ConfigError(
                f"each of block_out_channels is a multiple of norm_num_groups={groups}; "
                f"got {channels}"
            )
        if norm_type == "spatial" and channels % SPATIAL_GROUPS:
            raise ConfigError(
                "with norm_type='spatial' each of block_out_channels is a multiple of "
                f"{SPATIAL_GROUPS}; got {channels}"
            )
    if norm_type not in ("group", "spatial"):
        raise ConfigError(f"norm_type is 'group' or 'spatial'; got {norm_type!r}")

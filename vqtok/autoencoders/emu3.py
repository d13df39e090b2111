"""Emu3's autoencoder of clips as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES
from vqtok.architectures.causal import Past
from vqtok.architectures.emu3 import TimeConv
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.causal import AutoencoderCausal
from vqtok.errors import ConfigError

__all__ = ["AutoencoderVQEmu3", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("emu3")
class AutoencoderVQEmu3(AutoencoderCausal):
    """Clips (B, C, T, H, W), or pictures as still clips, to codes and back.

    A picture is repeated until it fills a token: so Emu3 does it, too. The settings are those of
    `AutoencoderBase`, with vq_embed_dim = latent_channels, for the decoder's norms see the codes,
    and

    block_out_channels, layers_per_block, down_block_types, up_block_types, norm_num_groups
                      of the networks on frames, as `AutoencoderVQ` has them
    temporal_stride   frames a token: 1, 2, 4 ...
    sample_size, sample_frames  the clips that it is trained on; others may have any size, and any
                      multiple of `temporal_stride` frames
    """

    ENCODER_SETTINGS = (
        "block_out_channels",
        "down_block_types",
        "in_channels",
        "layers_per_block",
        "norm_num_groups",
        "pixel_mean",
        "pixel_std",
        "temporal_stride",
    )
    DECODER_SETTINGS = (
        "block_out_channels",
        "layers_per_block",
        "norm_num_groups",
        "out_channels",
        "pixel_mean",
        "pixel_std",
        "temporal_stride",
        "up_block_types",
    )

    causal: ClassVar[bool] = False
    _no_split_modules: ClassVar[list[str]] = [
        "ResnetBlock2D",
        "TimeBlock",
        *AutoencoderBase._no_split_modules,
    ]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = (
            "DownEncoderBlock2D",
            "DownEncoderBlock2D",
            "DownEncoderBlock2D",
            "AttnDownEncoderBlock2D",
        ),
        up_block_types: tuple[str, ...] = (
            "AttnUpDecoderBlock2D",
            "UpDecoderBlock2D",
            "UpDecoderBlock2D",
            "UpDecoderBlock2D",
        ),
        block_out_channels: tuple[int, ...] = (256, 512, 512, 1024),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        temporal_stride: int = 4,
        latent_channels: int = 4,
        sample_size: int = 512,
        sample_frames: int = 4,
        num_vq_embeddings: int = 32768,
        vq_embed_dim: int | None = None,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        quantizer: str = "vector",
        quantizer_args: dict[str, Any] | None = None,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if vq_embed_dim not in (None, latent_channels):
            raise ConfigError(
                "the decoder's norms see the codes, so vq_embed_dim equals latent_channels; got "
                f"{vq_embed_dim} and {latent_channels}"
            )
        net = ARCHITECTURES["emu3"](
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            temporal_stride=temporal_stride,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("frames.conv_out.weight")

    def _projection(self, width: int, to: int) -> nn.Module:
        return TimeConv(width, to, side=1)

    def _shrink(self, pixels: Tensor, past: Past | None) -> Tensor:
        out: Tensor = self.quant_conv(self.encoder(pixels, past), past)
        return out

    def _grow(self, vectors: Tensor, past: Past | None) -> Tensor:
        out: Tensor = self.decoder(self.post_quant_conv(vectors, past), vectors, past)
        return out

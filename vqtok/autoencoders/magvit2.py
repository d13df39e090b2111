"""Open-MAGVIT2 as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.errors import ConfigError

__all__ = ["AutoencoderVQMagvit2", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("magvit2")
class AutoencoderVQMagvit2(AutoencoderBase):
    """Convolutions without attention, and a decoder whose norms see the codes' mean and spread.

    These are of the whole picture: decoding by tiles, each with its own, is another function. The
    settings are those of `AutoencoderBase`, and

    block_out_channels  the width at each resolution, halved between them
    layers_per_block    residual blocks a resolution and in the middle, of either network
    norm_num_groups     of each norm

    Latents are quantized as the encoder puts them out, and the decoder takes codes as they are:
    vq_embed_dim is latent_channels, or left out.
    """

    ENCODER_SETTINGS = (
        "block_out_channels",
        "in_channels",
        "layers_per_block",
        "norm_num_groups",
        "pixel_mean",
        "pixel_std",
    )
    DECODER_SETTINGS = (
        "block_out_channels",
        "layers_per_block",
        "norm_num_groups",
        "out_channels",
        "pixel_mean",
        "pixel_std",
    )

    _no_split_modules: ClassVar[list[str]] = ["Residual", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (128, 128, 256, 256, 512),
        layers_per_block: int = 4,
        latent_channels: int = 18,
        norm_num_groups: int = 32,
        sample_size: int = 256,
        num_vq_embeddings: int = 262144,
        vq_embed_dim: int | None = None,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        quantizer: str = "lfq",
        quantizer_args: dict[str, Any] | None = None,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if vq_embed_dim not in (None, latent_channels):
            raise ConfigError(
                "the decoder takes codes as wide as the encoder's latents, so vq_embed_dim is "
                f"latent_channels={latent_channels}; got {vq_embed_dim}"
            )
        net = ARCHITECTURES["magvit2"](
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("conv_out.weight")

    def _before_codes(self, width: int, dim: int) -> nn.Module:
        return nn.Identity()

    def _after_codes(self, dim: int, width: int) -> nn.Module:
        return nn.Identity()

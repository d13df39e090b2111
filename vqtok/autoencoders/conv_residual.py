"""The first kind of VQ-VAE as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.pixels import PixelRange
from vqtok.errors import ConfigError

__all__ = ["AutoencoderVQConvResidual", "ModelMixin"]  # the latter for diffusers' loader

UNIT_MEAN, UNIT_STD = 0.0, 1.0  # of pixels in [0, 1]


@AUTOENCODERS.register("conv_residual")
class AutoencoderVQConvResidual(AutoencoderBase):
    """Strided convolutions, a residual stack, and transposed convolutions back.

    The settings are those of `AutoencoderBase`, and

    latent_channels    width of the latents and codes, where vq_embed_dim names none: the decoder
                       takes codes as they are
    channels           width of the networks
    residual_layers, residual_channels  of the stack, in the encoder and in the decoder
    downsamplings      how often a side is halved
    output             "sigmoid": the networks see pixels in [0, 1], that is, pixel_mean 0 and
                       pixel_std 1; "linear": [-1, 1], or what these two say
    """

    ENCODER_SETTINGS = (
        "channels",
        "downsamplings",
        "in_channels",
        "output",
        "pixel_mean",
        "pixel_std",
        "residual_channels",
        "residual_layers",
    )
    DECODER_SETTINGS = (
        "channels",
        "downsamplings",
        "out_channels",
        "output",
        "pixel_mean",
        "pixel_std",
        "residual_channels",
        "residual_layers",
    )

    _no_split_modules: ClassVar[list[str]] = ["Residual", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        channels: int = 128,
        residual_layers: int = 2,
        residual_channels: int = 32,
        downsamplings: int = 2,
        output: str = "sigmoid",
        latent_channels: int = 64,
        sample_size: int = 32,
        num_vq_embeddings: int = 512,
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
        net = ARCHITECTURES["conv_residual"](
            in_channels=in_channels,
            out_channels=out_channels,
            channels=channels,
            code_channels=vq_embed_dim or latent_channels,
            residual_layers=residual_layers,
            residual_channels=residual_channels,
            downsamplings=downsamplings,
            output=output,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("conv_out.weight")

    def _before_codes(self, width: int, dim: int) -> nn.Module:
        return self._projection(self.config.channels, dim)

    def _after_codes(self, dim: int, width: int) -> nn.Module:
        return nn.Identity()

    def _pixel_range(self) -> PixelRange:
        config = self.config
        if config.output == "linear":
            return super()._pixel_range()
        mean, std = (UNIT_MEAN,) * config.in_channels, (UNIT_STD,) * config.in_channels
        for name, value in (("pixel_mean", mean), ("pixel_std", std)):
            given = config[name]
            if given is not None and tuple(given) != value:
                raise ConfigError(
                    f"with output='sigmoid' pixels lie in [0, 1], so {name} is {list(value)}, or "
                    f"left out; got {list(given)}"
                )
        return PixelRange(mean, std, channels=config.in_channels, out_channels=config.out_channels)

"""MaskGIT's VQGAN as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase

__all__ = ["AutoencoderVQMaskGIT", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("maskgit")
class AutoencoderVQMaskGIT(AutoencoderBase):
    """Convolutions without attention; of any size that is a multiple of the stride.

    The settings are those of `AutoencoderBase`, and

    block_out_channels  the width at each resolution, halved between them
    layers_per_block    residual blocks a resolution, in the encoder and in the decoder
    latent_channels     width of the latents and codes, where vq_embed_dim names none: the decoder
                        takes codes as they are
    norm_num_groups     of each norm
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
        layers_per_block: int = 2,
        latent_channels: int = 256,
        norm_num_groups: int = 32,
        sample_size: int = 256,
        num_vq_embeddings: int = 1024,
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
        net = ARCHITECTURES["maskgit"](
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            code_channels=vq_embed_dim or latent_channels,
            norm_num_groups=norm_num_groups,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("conv_out.weight")

    def _latents(self, pixels: Tensor) -> Tensor:
        # Halving would drop what is left over at an edge.
        self.grid_of(tuple(pixels.shape[2:]))
        return super()._latents(pixels)

    def _before_codes(self, width: int, dim: int) -> nn.Module:
        return self._projection(self.config.block_out_channels[-1], dim)

    def _after_codes(self, dim: int, width: int) -> nn.Module:
        return nn.Identity()

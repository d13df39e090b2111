"""The convolutional image autoencoder: a diffusers model with VQModel's weights, and ids."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vqtok.architectures import ARCHITECTURES
from vqtok.architectures.causal import ChannelNorm
from vqtok.architectures.cnn import NO_DECODER, NoDecoder
from vqtok.autoencoders import stock
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.errors import ConfigError

__all__ = ["AutoencoderVQ", "ModelMixin"]  # diffusers' loader looks for ModelMixin beside the class


@AUTOENCODERS.register("cnn")
class AutoencoderVQ(AutoencoderBase):
    """Pixels to codes and back, for pipelines that take a `VQModel` or another autoencoder.

    The first arguments are VQModel's own, and so are the names of the weights; the rest are those
    of `AutoencoderBase`, and

    scaling_factor   1 by default: VQModel's .18215 belongs to another kind of latents
    up_block_types   (): no decoder, for checkpoints that hold none
    pre_quant_norm   "layer": latents are normalised over their channels before they are quantized
    quant_conv_kernel  of the convolutions before and after the codes, an odd number
    """

    ENCODER_SETTINGS = (
        "act_fn",
        "block_out_channels",
        "down_block_types",
        "in_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "norm_num_groups",
        "pixel_mean",
        "pixel_std",
        "pre_quant_norm",
        "quant_conv_kernel",
    )
    DECODER_SETTINGS = (
        "act_fn",
        "block_out_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "norm_num_groups",
        "norm_type",
        "out_channels",
        "pixel_mean",
        "pixel_std",
        "quant_conv_kernel",
        "up_block_types",
    )

    _no_split_modules: ClassVar[list[str]] = ["ResnetBlock2D", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 3,
        sample_size: int = 32,
        num_vq_embeddings: int = 256,
        norm_num_groups: int = 32,
        vq_embed_dim: int | None = None,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        norm_type: str = "group",
        mid_block_add_attention: bool = True,
        lookup_from_codebook: bool = False,
        force_upcast: bool = False,
        quantizer: str = "vector",
        quantizer_args: dict[str, Any] | None = None,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
        pre_quant_norm: str = "none",
        quant_conv_kernel: int = 1,
    ) -> None:
        super().__init__()
        dim = vq_embed_dim or latent_channels
        if norm_type == "spatial" and dim != latent_channels:
            raise ConfigError(
                "with norm_type='spatial' the decoder's norms see the codes, so vq_embed_dim "
                f"equals latent_channels; got {dim} and {latent_channels}"
            )
        if pre_quant_norm not in ("none", "layer"):
            raise ConfigError(f"pre_quant_norm is 'none' or 'layer'; got {pre_quant_norm!r}")
        if quant_conv_kernel < 1 or quant_conv_kernel % 2 == 0:
            raise ConfigError(f"quant_conv_kernel is an odd number from 1; got {quant_conv_kernel}")
        net = ARCHITECTURES["cnn"](
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            act_fn=act_fn,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            norm_type=norm_type,
            mid_block_add_attention=mid_block_add_attention,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        if isinstance(self.decoder, NoDecoder):
            raise ConfigError(NO_DECODER)
        return self.decoder.get_parameter("conv_out.weight")

    def _before_codes(self, width: int, dim: int) -> nn.Module:
        project = super()._before_codes(width, dim)
        if self.config.pre_quant_norm == "none":
            return project
        return nn.Sequential(OrderedDict(project=project, norm=ChannelNorm(dim)))

    def _projection(self, width: int, to: int) -> nn.Module:
        kernel: int = self.config.quant_conv_kernel
        return nn.Conv2d(width, to, kernel, padding=kernel // 2)

    def _pixels(self, vectors: Tensor) -> Tensor:
        spatial = self.config.norm_type == "spatial"
        out: Tensor = self.decoder(self.post_quant_conv(vectors), vectors if spatial else None)
        return out

    def to_diffusers(self) -> Any:
        """A genuine `diffusers.VQModel` with equal weights, ids and pixels.

        Raises `ConfigError` where VQModel cannot express this model.
        """
        return stock.to_vq_model(self)

    @classmethod
    def from_diffusers(cls, model: Any) -> AutoencoderVQ:
        """This class, with the weights of a `diffusers.VQModel`."""
        return stock.from_vq_model(cls, model)

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """diffusers' hook between a configuration file and `__init__`."""
        if config_dict.get("_class_name") == "VQModel":
            config_dict = stock.defaults() | stock.TRAINING | config_dict
        return super().extract_init_dict(config_dict, **kwargs)

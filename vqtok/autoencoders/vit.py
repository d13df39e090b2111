"""ViT-VQGAN as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase

__all__ = ["AutoencoderVQViT", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("vit")
class AutoencoderVQViT(AutoencoderBase):
    """Transformers over patches; the codes of the paper are compared by direction.

    The settings are those of `AutoencoderBase`, and

    patch_size       pixels a token, along one side
    latent_channels  width of the encoder's tokens before they are projected to vq_embed_dim
    depth, heads, mlp_dim    of the encoder, and of the decoder where decoder_* is None
    decoder_channels, _depth, _heads, _mlp_dim  of the decoder
    dim_head         width of each head of attention
    sample_size      the side of the pictures that it is trained on. A larger picture's positions
                     are squeezed into that range.
    """

    ENCODER_SETTINGS = (
        "depth",
        "dim_head",
        "heads",
        "in_channels",
        "patch_size",
        "pixel_mean",
        "pixel_std",
        "sample_size",
    )
    DECODER_SETTINGS = (
        "decoder_depth",
        "decoder_heads",
        "depth",
        "dim_head",
        "heads",
        "out_channels",
        "patch_size",
        "pixel_mean",
        "pixel_std",
        "sample_size",
    )

    _no_split_modules: ClassVar[list[str]] = ["Block", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 8,
        latent_channels: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_dim: int = 2048,
        decoder_channels: int | None = None,
        decoder_depth: int | None = None,
        decoder_heads: int | None = None,
        decoder_mlp_dim: int | None = None,
        dim_head: int = 64,
        sample_size: int = 256,
        num_vq_embeddings: int = 8192,
        vq_embed_dim: int | None = 32,
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
        net = ARCHITECTURES["vit"](
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            sample_size=sample_size,
            latent_channels=latent_channels,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            decoder_channels=self._decoder_width(),
            decoder_depth=depth if decoder_depth is None else decoder_depth,
            decoder_heads=heads if decoder_heads is None else decoder_heads,
            decoder_mlp_dim=mlp_dim if decoder_mlp_dim is None else decoder_mlp_dim,
            dim_head=dim_head,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("to_patch.weight")

    def _decoder_width(self) -> int:
        own: int | None = self.config.decoder_channels
        width: int = self.config.latent_channels if own is None else own
        return width

    def _after_codes(self, dim: int, width: int) -> nn.Module:
        return super()._after_codes(dim, self._decoder_width())

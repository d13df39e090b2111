"""BSQ-ViT as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase

__all__ = ["AutoencoderVQBSQViT", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("bsq_vit")
class AutoencoderVQBSQViT(AutoencoderBase):
    """Transformers over patches, with learned positions; by default codes of 18 bits.

    The settings are those of `AutoencoderBase`, and

    patch_size       pixels a token, along one side
    latent_channels  width of both transformers
    depth, heads, mlp_dim  of both transformers
    output_dim       of the layer between the decoder's transformer and pixels
    sample_size      the side of the pictures that it is trained on. Positions are learned for
                     these, and interpolated for pictures of another size.
    """

    ENCODER_SETTINGS = (
        "depth",
        "heads",
        "in_channels",
        "patch_size",
        "pixel_mean",
        "pixel_std",
    )
    DECODER_SETTINGS = (
        "depth",
        "heads",
        "out_channels",
        "patch_size",
        "pixel_mean",
        "pixel_std",
    )

    _no_split_modules: ClassVar[list[str]] = ["Block", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 8,
        latent_channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_dim: int = 3072,
        output_dim: int = 3072,
        sample_size: int = 256,
        num_vq_embeddings: int = 262144,
        vq_embed_dim: int | None = 18,
        scaling_factor: float = 1.0,
        shift_factor: float | None = None,
        quantizer: str = "bsq",
        quantizer_args: dict[str, Any] | None = None,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        pixel_mean: tuple[float, ...] | None = None,
        pixel_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        net = ARCHITECTURES["bsq_vit"](
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            sample_size=sample_size,
            latent_channels=latent_channels,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            output_dim=output_dim,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("to_patch.weight")

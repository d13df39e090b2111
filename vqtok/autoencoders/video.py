"""Autoencoders of clips as diffusers models."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.clips import AutoencoderClips
from vqtok.errors import ConfigError

__all__ = ["AutoencoderVQTimesformer", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("timesformer")
class AutoencoderVQTimesformer(AutoencoderClips):
    """Clips (B, C, T, H, W) to codes (B, T, H / patch_size, W / patch_size) and back.

    The settings are those of `AutoencoderBase`, and

    latent_channels    width of the networks
    patch_size         side in pixels of a token, which is one frame deep
    depth, heads, mlp_dim  of the transformer in the encoder, and of that in the decoder
    sample_size, sample_frames  the clips that it is trained on; others may have any length and
                       size. Positions in larger ones are squeezed into the range of these
    """

    ENCODER_SETTINGS = (
        "depth",
        "heads",
        "in_channels",
        "mlp_dim",
        "patch_size",
        "pixel_mean",
        "pixel_std",
        "sample_frames",
        "sample_size",
    )
    DECODER_SETTINGS = (
        "depth",
        "heads",
        "mlp_dim",
        "out_channels",
        "patch_size",
        "pixel_mean",
        "pixel_std",
        "sample_frames",
        "sample_size",
    )

    _no_split_modules: ClassVar[list[str]] = ["Block", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 2,
        depth: int = 8,
        heads: int = 4,
        mlp_dim: int = 768,
        latent_channels: int = 256,
        sample_size: int = 64,
        sample_frames: int = 16,
        num_vq_embeddings: int = 1024,
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
        net = ARCHITECTURES["timesformer"](
            in_channels=in_channels,
            out_channels=out_channels,
            latent_channels=latent_channels,
            patch_size=patch_size,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            sample_size=sample_size,
            sample_frames=sample_frames,
        )
        self._assemble(net)

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("to_patch.weight")

    @property
    def window(self) -> int:
        """See `AutoencoderBase.window`: as many frames as it is trained on."""
        frames: int = self.config.sample_frames
        return frames

    def to_diffusers(self) -> Any:
        """Raises `ConfigError`: diffusers has no class for this model."""
        raise ConfigError(
            "diffusers has no class for a model of clips with a codebook; save_pretrained writes "
            "a folder that AutoencoderVQTimesformer.from_pretrained reads"
        )

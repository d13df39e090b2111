"""The causal convolutional autoencoder of clips as a diffusers model."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from vqtok.architectures import ARCHITECTURES
from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.causal import AutoencoderCausal

__all__ = ["AutoencoderVQCausal3D", "ModelMixin"]  # the latter for diffusers' loader


@AUTOENCODERS.register("cnn3d")
class AutoencoderVQCausal3D(AutoencoderCausal):
    """Clips (B, C, T, H, W), or pictures as clips of one frame, to codes and back.

    The settings are those of `AutoencoderBase`, and

    block_out_channels   the width at each resolution; H and W are halved between them
    temporal_downsample  of each halving, whether it halves time, too
    layers_per_block     residual blocks over space and as many over time, at each resolution; or a
                         number for each, which may be 0
    decoder_layers_per_block  the same for the decoder; by default as in the encoder
    mid_block_add_attention   at the last resolution the places of a frame look at each other
    sample_size, sample_frames  the clips that it is trained on; others may have any length of
                         1 + n * temporal_compression_ratio frames, and any size
    """

    ENCODER_SETTINGS = (
        "block_out_channels",
        "in_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "pixel_mean",
        "pixel_std",
        "temporal_downsample",
    )
    DECODER_SETTINGS = (
        "block_out_channels",
        "decoder_layers_per_block",
        "layers_per_block",
        "mid_block_add_attention",
        "out_channels",
        "pixel_mean",
        "pixel_std",
        "temporal_downsample",
    )

    _no_split_modules: ClassVar[list[str]] = ["Residual", *AutoencoderBase._no_split_modules]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (32, 64, 128, 256),
        temporal_downsample: tuple[bool, ...] = (False, True, True),
        layers_per_block: int | tuple[int, ...] = (0, 1, 1, 1),
        decoder_layers_per_block: int | tuple[int, ...] | None = None,
        mid_block_add_attention: bool = True,
        latent_channels: int = 16,
        sample_size: int = 128,
        sample_frames: int = 17,
        num_vq_embeddings: int = 8192,
        vq_embed_dim: int | None = 8,
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
        net = ARCHITECTURES["cnn3d"](
            in_channels=in_channels,
            out_channels=out_channels,
            latent_channels=latent_channels,
            block_out_channels=block_out_channels,
            temporal_downsample=temporal_downsample,
            layers_per_block=layers_per_block,
            decoder_layers_per_block=decoder_layers_per_block,
            mid_block_add_attention=mid_block_add_attention,
        )
        self._assemble(net)

    @classmethod
    def canonical(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """See `AutoencoderBase.canonical`: a number of layers stands for as many everywhere."""
        levels = len(settings["block_out_channels"])
        down, up = (
            [given] * levels if isinstance(given, int) else given
            for given in (settings["layers_per_block"], settings["decoder_layers_per_block"])
        )
        halves = [bool(each) for each in settings["temporal_downsample"]]
        return settings | {
            "layers_per_block": down,
            "decoder_layers_per_block": None if up == down else up,
            "temporal_downsample": halves,
        }

    @property
    def last_layer(self) -> nn.Parameter:
        """See `AutoencoderBase.last_layer`."""
        return self.decoder.get_parameter("conv_out.weight")

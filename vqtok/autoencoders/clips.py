"""What pipelines of clips ask an autoencoder for."""

from __future__ import annotations

from typing import Any

from vqtok.architectures import Architecture
from vqtok.autoencoders.base import AutoencoderBase
from vqtok.strides import token_of

__all__ = ["AutoencoderClips"]


class AutoencoderClips(AutoencoderBase):
    """Clips (B, C, T, H, W) to codes (B, t, h, w) and back.

    The configuration names, beside the settings, what pipelines read and what follows from them:
    temporal_compression_ratio and spatial_compression_ratio and, for architectures that have no
    such setting, block_out_channels, whose length stands for the spatial ratio: 2 ** (length - 1).
    """

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames a token."""
        ratio: int = self.stride[0]
        return ratio

    def token_of(self, frame: int) -> int:
        """Which token along time shows a frame."""
        return token_of(frame, self.stride[0], causal=self.causal)

    def _assemble(self, net: Architecture) -> None:
        super()._assemble(net)
        self.register_to_config(**self._derived())

    def _derived(self) -> dict[str, Any]:
        side = self.spatial_compression_ratio
        derived: dict[str, Any] = {
            "temporal_compression_ratio": self.temporal_compression_ratio,
            "spatial_compression_ratio": side,
        }
        if "block_out_channels" not in self.config and side & (side - 1) == 0:
            derived["block_out_channels"] = (self.config.latent_channels,) * side.bit_length()
        return derived

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """diffusers' hook between a configuration file and `__init__`."""
        settings = cls._get_init_keys(cls)
        derived = {"temporal_compression_ratio", "spatial_compression_ratio", "block_out_channels"}
        config = {k: v for k, v in config_dict.items() if k in settings or k not in derived}
        return super().extract_init_dict(config, **kwargs)

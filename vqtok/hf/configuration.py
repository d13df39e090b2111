"""The configuration that transformers reads out of a tokenizer folder's config.json."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from vqtok.autoencoders import AutoencoderBase

__all__ = ["VQTokConfig"]

# Those of `AutoencoderVQ`, written down again: asking it would import diffusers.
DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 3,
    "sample_size": 32,
    "num_vq_embeddings": 256,
    "norm_num_groups": 32,
    "vq_embed_dim": None,
    "scaling_factor": 1.0,
    "shift_factor": None,
    "norm_type": "group",
    "mid_block_add_attention": True,
    "lookup_from_codebook": False,
    "force_upcast": False,
    "quantizer": "vector",
    "quantizer_args": None,
    "estimator": None,
    "estimator_args": None,
    "pixel_mean": None,
    "pixel_std": None,
    "pre_quant_norm": "none",
    "quant_conv_kernel": 1,
}


class VQTokConfig(PreTrainedConfig):
    """The settings of one of vqtok's autoencoders, by the same names; see there for their meaning.

    `_class_name` says of which; where it is left out, of `AutoencoderVQ`.
    """

    model_type = "vqtok"

    def __init__(self, **settings: Any) -> None:
        if settings.get("_class_name", "AutoencoderVQ") == "AutoencoderVQ":
            settings = {**DEFAULTS, **settings}
        # As JSON has them, so that a configuration equals its saved copy.
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
        super().__init__(**plain)

    def autoencoder(self) -> type[AutoencoderBase]:
        """The class that takes these settings."""
        from vqtok.autoencoders.loading import class_of

        return class_of(vars(self))

    def settings(self) -> dict[str, Any]:
        """What `autoencoder()` takes."""
        parameters = inspect.signature(self.autoencoder().__init__).parameters.values()
        return {p.name: getattr(self, p.name, p.default) for p in parameters if p.name != "self"}

"""The configuration that transformers reads out of a tokenizer folder's config.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

__all__ = ["VQTokConfig"]


class VQTokConfig(PreTrainedConfig):
    """The settings of `vqtok.AutoencoderVQ`, by the same names; see there for their meaning."""

    model_type = "vqtok"

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: Sequence[str] = ("DownEncoderBlock2D",),
        up_block_types: Sequence[str] = ("UpDecoderBlock2D",),
        block_out_channels: Sequence[int] = (64,),
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
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        own = {name: value for name, value in locals().items() if name in SETTINGS}
        for name, value in own.items():
            # As JSON has it, so that a configuration equals its saved copy.
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        super().__init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        """What `AutoencoderVQ` takes."""
        return {name: getattr(self, name) for name in SETTINGS}


SETTINGS = tuple(
    name for name in VQTokConfig.__init__.__annotations__ if name not in ("kwargs", "return")
)

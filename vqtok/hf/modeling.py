"""A tokenizer folder as a transformers model: pixels to codes and back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from vqtok.errors import LoadError
from vqtok.hf.configuration import VQTokConfig

if TYPE_CHECKING:
    from vqtok.autoencoders import AutoencoderBase

__all__ = ["VQTokDecoderOutput", "VQTokEncoderOutput", "VQTokModel", "VQTokOutput"]


@dataclass
class VQTokEncoderOutput(ModelOutput):
    """image_codes: (B, *grid) or (B, *grid, Q), int64."""

    image_codes: Tensor | None = None


@dataclass
class VQTokDecoderOutput(ModelOutput):
    """pixel_values: (B, 3, *size), floats in [-1, 1]."""

    pixel_values: Tensor | None = None


@dataclass
class VQTokOutput(ModelOutput):
    """A reconstruction, the codes that it was made of, and the quantizer's weighted loss."""

    loss: Tensor | None = None
    pixel_values: Tensor | None = None
    image_codes: Tensor | None = None


class VQTokModel(PreTrainedModel):
    """An autoencoder with the interface of transformers' models, on the same weights.

    `pixel_values` are (B, 3, H, W) in [-1, 1], as the image processor makes them, or uint8; those
    of a model that takes clips are (B, 3, T, H, W).
    """

    config_class = VQTokConfig
    base_model_prefix = "vqtok"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("Block", "Codebook", "Residual", "ResnetBlock2D")
    _keep_in_fp32_modules_strict = ("quantize",)

    def __init__(self, config: VQTokConfig) -> None:
        super().__init__(config)
        model = config.autoencoder()(**config.settings())
        self.encoder = model.encoder
        self.quant_conv = model.quant_conv
        self.quantize = model.quantize
        self.post_quant_conv = model.post_quant_conv
        self.decoder = model.decoder
        # In a tuple, where torch does not see it: its parts are this model's own already.
        self._shared = (model,)
        self.post_init()

    @property
    def autoencoder(self) -> AutoencoderBase:
        """The same parts as a diffusers model."""
        model: AutoencoderBase = self._shared[0]
        return model

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: modules start as their constructors leave them, codebooks as settings say."""

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """See `PreTrainedModel.from_pretrained`; `LoadError` if weights lack."""
        model, info = super().from_pretrained(
            name, *args, **{**kwargs, "output_loading_info": True}
        )
        lost = sorted(info["missing_keys"])
        if lost:
            raise LoadError(
                f"the weights in {name} lack {len(lost)} of this model's tensors, among them "
                f"{lost[0]!r}"
            )
        return (model, info) if kwargs.get("output_loading_info") else model

    def encode(
        self, pixel_values: Tensor, return_dict: bool | None = None
    ) -> VQTokEncoderOutput | tuple[Tensor]:
        """Pixels -> image_codes; see `AutoencoderBase.encode_codes`."""
        codes = self.autoencoder.encode_codes(pixel_values)
        return VQTokEncoderOutput(image_codes=codes) if self._named(return_dict) else (codes,)

    def decode(
        self, image_codes: Tensor, return_dict: bool | None = None
    ) -> VQTokDecoderOutput | tuple[Tensor]:
        """image_codes -> pixels in [-1, 1]; see `AutoencoderBase.decode_codes`."""
        pixels = self.autoencoder.decode_codes(image_codes)
        return VQTokDecoderOutput(pixel_values=pixels) if self._named(return_dict) else (pixels,)

    def forward(
        self, pixel_values: Tensor, return_dict: bool | None = None, **kwargs: Any
    ) -> VQTokOutput | tuple[Tensor, Tensor, Tensor]:
        """Pixels in [-1, 1] -> their reconstruction, with what training needs."""
        out = self.autoencoder(pixel_values.to(self.autoencoder.dtype))
        loss, codes = out.commit_loss, out.quantized.codes
        if not self._named(return_dict):
            return loss, out.sample, codes
        return VQTokOutput(loss=loss, pixel_values=out.sample, image_codes=codes)

    def _named(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict if return_dict is None else return_dict)

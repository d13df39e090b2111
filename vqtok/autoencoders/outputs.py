"""What the autoencoders return. The first field is what a pipeline reads."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.utils import BaseOutput
from torch import Tensor
from torch.utils import _pytree

from vqtok.types import CodeSums, Quantized

__all__ = ["AutoencoderVQOutput", "VQEncoderOutput"]

# An exported program is saved with the kinds of its outputs, by name.
for _kind in (CodeSums, Quantized):
    _pytree._register_namedtuple(_kind, serialized_type_name=f"vqtok.{_kind.__name__}")


@dataclass
class VQEncoderOutput(BaseOutput):
    """latents: (B, D, *grid), before quantization, as every pipeline expects."""

    latents: Tensor


@dataclass
class AutoencoderVQOutput(DecoderOutput):
    """sample: (B, C, *size) pixels in [-1, 1]; the rest is what the training step needs.

    latents  (B, D, *grid), before quantization
    """

    quantized: Quantized | None = None
    latents: Tensor | None = None

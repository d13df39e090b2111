"""Pixels to latents and to their ids in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtok.autoencoders.base import AutoencoderBase
from vqtok.autoencoders.building import execution_device
from vqtok.autoencoders.pixels import as_signed
from vqtok.precision import Precision, arithmetic

__all__ = ["encode_latents"]


@torch.no_grad()
def encode_latents(
    model: AutoencoderBase, x: Tensor, precision: Precision = "ieee32"
) -> tuple[Tensor, Tensor]:
    """(B, C, *size) pixels as `encode_codes` takes them -> latents (B, D, *grid), and its ids.

    Latents are those before quantization, as `encode` gives them, in the dtype of `precision`.
    """
    signed = as_signed(x, model.config.in_channels, len(model.stride), model.grid_of)
    pixels = signed.to(execution_device(model))
    with arithmetic(precision, pixels.device):
        latents = model.encode(pixels.to(model.dtype), return_dict=False)[0]
        return latents, model.ids_of(latents, precision)

"""diffusers model classes over quantizers, estimators and architectures; one file a family."""

from __future__ import annotations

from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.conv_residual import AutoencoderVQConvResidual
from vqtok.autoencoders.image import AutoencoderVQ
from vqtok.autoencoders.video import AutoencoderVQTimesformer
from vqtok.autoencoders.vit import AutoencoderVQViT

__all__ = [
    "AUTOENCODERS",
    "AutoencoderBase",
    "AutoencoderVQ",
    "AutoencoderVQConvResidual",
    "AutoencoderVQTimesformer",
    "AutoencoderVQViT",
]

"""diffusers model classes over quantizers, estimators and architectures; one file a family."""

from __future__ import annotations

from vqtok.autoencoders.base import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.bsq_vit import AutoencoderVQBSQViT
from vqtok.autoencoders.cnn3d import AutoencoderVQCausal3D
from vqtok.autoencoders.conv_residual import AutoencoderVQConvResidual
from vqtok.autoencoders.emu3 import AutoencoderVQEmu3
from vqtok.autoencoders.image import AutoencoderVQ
from vqtok.autoencoders.magvit2 import AutoencoderVQMagvit2
from vqtok.autoencoders.maskgit import AutoencoderVQMaskGIT
from vqtok.autoencoders.titok import AutoencoderVQTiTok
from vqtok.autoencoders.video import AutoencoderVQTimesformer
from vqtok.autoencoders.vit import AutoencoderVQViT

__all__ = [
    "AUTOENCODERS",
    "AutoencoderBase",
    "AutoencoderVQ",
    "AutoencoderVQBSQViT",
    "AutoencoderVQCausal3D",
    "AutoencoderVQConvResidual",
    "AutoencoderVQEmu3",
    "AutoencoderVQMagvit2",
    "AutoencoderVQMaskGIT",
    "AutoencoderVQTiTok",
    "AutoencoderVQTimesformer",
    "AutoencoderVQViT",
]

"""diffusers model classes over quantizers, estimators and architectures; one file a family."""

from __future__ import annotations

from vqtok.autoencoders.image import AutoencoderVQ

__all__ = ["AutoencoderVQ"]

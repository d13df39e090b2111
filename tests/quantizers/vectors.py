"""A small vector quantizer, and latents for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtok.quantizers.vector import VectorQuantizer


def quantizer(dim: int = 4, codes: int = 16, **settings: Any) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(dim, codes, **{"start": "normal", "estimator": "ste", **settings})


def latents(dim: int = 4, batch: int = 2, side: int = 6, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, dim, side, side, generator=generator)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

"""Modules of vector-quantize-pytorch that have been trained for a few steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def trained(kind: str = "VectorQuantize", steps: int = 3, **settings: Any) -> Any:
    """In eval, with codes near normal vectors of eight dimensions."""
    import vector_quantize_pytorch

    torch.manual_seed(0)
    made = getattr(vector_quantize_pytorch, kind)(dim=8, codebook_size=32, **settings)
    made.train()
    for _ in range(steps):
        made(torch.randn(64, 4, 8))
    return made.eval()


def sample() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """With projections around the codes."""
    return dict(trained(codebook_dim=4).state_dict()), {}

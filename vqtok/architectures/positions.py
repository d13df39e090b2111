"""Positions of tokens as sines and cosines, computed for whatever grid comes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["plane", "waves"]


def plane(h: int, w: int, trained: int, dim: int, device: torch.device) -> Tensor:
    """(h * w, dim) float32, tokens by rows: half of the dimensions for the column, then the row."""
    column = waves(w, trained, dim // 2, device)[None].expand(h, w, -1)
    row = waves(h, trained, dim // 2, device)[:, None].expand(h, w, -1)
    return torch.cat([column, row], -1).flatten(0, 1)


def waves(length: int, trained: int, dim: int, device: torch.device) -> Tensor:
    """Sines, then cosines, of indices at wavelengths up to 10,000: (length, dim) float32.

    Where there are more than `trained` indices they lie closer, in the range seen in training.
    """
    index = torch.arange(length, dtype=torch.float32, device=device)
    index = index * (trained / torch.sym_max(length, trained))
    rate = torch.arange(dim // 2, dtype=torch.float32, device=device) / (dim // 2)
    angle = index[:, None] * 10_000**-rate
    return torch.cat([angle.sin(), angle.cos()], -1)

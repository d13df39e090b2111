"""Rows as dicts of tensors, which torch's own collation can put into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from vqtok.offline.read import TokenSet

__all__ = ["TensorRows"]


class TensorRows(Dataset[dict[str, Any]]):
    """Of each row what it holds of key, view, text, label, codes (int64) and latents."""

    def __init__(self, tokens: TokenSet) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.tokens[index]
        found = {name: getattr(row, name) for name in ("key", "view", "text", "label", "latents")}
        if row.codes is not None:
            found["codes"] = torch.from_numpy(row.codes.astype(np.int64))
        if row.latents is not None:
            found["latents"] = torch.from_numpy(row.latents)
        return {name: value for name, value in found.items() if value is not None}

"""A codebook that goes on from a tokenizer instead of starting anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vqtok.metrics.pixels import from_uint8
from vqtok.quantizers.vector import tables_of
from vqtok.training.sums import joined

__all__ = ["go_on"]


@torch.no_grad()
def go_on(model: Any, batches: Iterable[Tensor]) -> None:
    """Marks the codebook as started, and counts its codes where the tokenizer brought no counts.

    Stock checkpoints hold codes and no running means: these are made of how often each code
    occurs in `batches`, uint8 pixels (b, C, *size), together one optimizer step.
    """
    tables = tables_of(model.quantize)
    for table in tables:
        table.go_on()
    strangers = [table for table in tables if table.by_average and not table.means_agree()]
    if not strangers:
        return
    counts = _count(model, batches)
    if len(counts) != len(tables):  # several codebooks that share one table
        counts = counts.sum(0, keepdim=True)
    for table, count in zip(tables, counts, strict=True):
        if table in strangers:
            table.go_on(count)


def _count(model: Any, batches: Iterable[Tensor]) -> Tensor:
    """(Q, K): tokens on each code in one optimizer step's worth of pixels, over all ranks."""
    model.eval()
    quantizer = model.quantize.train()  # for in eval mode there are no sums
    parts = []
    for pixels in batches:
        latents = model.encode(from_uint8(pixels.to(model.device))).latents
        parts.append(quantizer(latents).sums)
    return joined(parts).count.reshape(-1, quantizer.codebook_size)

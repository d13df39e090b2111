"""What quantizers made of several quantizers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqtok.quantizers import Quantizer
from vqtok.types import CodeSums

__all__ = ["mean_losses", "stack_sums", "step_each"]


def mean_losses(each: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The losses of equal quantizers -> their means."""
    return {name: torch.stack([losses[name] for losses in each]).mean() for name in each[0]}


def stack_sums(each: Sequence[CodeSums | None]) -> CodeSums | None:
    """The sums of equal quantizers -> one, the quantizers its first axis."""
    sums = [own for own in each if own is not None]
    return CodeSums(*map(torch.stack, zip(*sums, strict=True))) if sums else None


def step_each(
    quantizers: Sequence[Quantizer], sums: CodeSums, generator: torch.Generator | None
) -> None:
    """Each quantizer's step, with its own part of what `stack_sums` made."""
    for quantizer, *own in zip(quantizers, *sums, strict=True):
        quantizer.step(CodeSums(*own), generator)

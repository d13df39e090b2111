"""What micro-batches and processes contribute to the codebook, joined for one step of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vqtok.training.reduce import gathered, summed_over_ranks
from vqtok.types import CodeSums

__all__ = ["joined"]


def joined(parts: Sequence[CodeSums]) -> CodeSums:
    """The sums of one process's micro-batches -> those of the joint batch, on every process.

    Counts and totals add up. Candidates come out in the order in which one process would have
    seen them: by micro-batch, then by rank; ranks hold neighbouring parts of a micro-batch.
    """
    count = torch.stack([part.count for part in parts]).sum(0)
    total = torch.stack([part.total for part in parts]).sum(0)
    both = summed_over_ranks(torch.cat([count[..., None], total], -1))
    # (W, M, *, R, D) -> (*, M, W, R, D) -> (*, M W R, D); * is the axis of several codebooks.
    candidates = gathered(torch.stack([part.candidates for part in parts]))
    candidates = candidates.movedim((1, 0), (-4, -3)).flatten(-4, -2)
    return CodeSums(both[..., 0].contiguous(), both[..., 1:].contiguous(), candidates)

"""How much of a codebook is used. Papers mean three things by that, and the figures differ."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vqtok.errors import CodesError

__all__ = ["Usage", "code_usage", "count_codes", "perplexity", "share_used"]

# Pictures a batch in the rotation trick's paper, and tokens in LlamaGen's buffer.
BATCH = 256
WINDOW = 65_536


class Usage(NamedTuple):
    """Shares of the codebook in [0, 1], each under a published definition, and the perplexity."""

    whole: float  # codes that occur anywhere in the set
    per_batch: float  # codes that occur in a batch of 256 pictures, averaged over batches
    window: float  # codes that occur among the last 65,536 tokens
    perplexity: float  # exp(entropy) of the set's code frequencies, in [1, K]


def code_usage(codes: Tensor, codebook_size: int) -> Usage:
    """Codes (N, *grid) of N pictures, in [0, codebook_size) -> what is used of the codebook.

    Of several codebooks each has its own figures: call it with the codes of one. A last batch of
    fewer than 256 pictures would count as a whole one and is left out, unless it is the only one.
    """
    count = count_codes(codes, codebook_size)
    full = len(codes) // BATCH * BATCH or len(codes)
    batches = [share_used(count_codes(b, codebook_size)) for b in codes[:full].split(BATCH)]
    last = count_codes(codes.flatten()[-WINDOW:], codebook_size)
    return Usage(
        share_used(count), sum(batches) / len(batches), share_used(last), perplexity(count)
    )


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Codes of any shape -> (K,) int64: how often each occurs. Counts of parts add up."""
    flat = codes.flatten()
    if not len(flat):
        raise CodesError(f"usage is that of one code at least; got codes {tuple(codes.shape)}")
    low, high = (int(value) for value in flat.aminmax())
    if low < 0 or high >= codebook_size:
        raise CodesError(
            f"codes of this tokenizer lie in [0, {codebook_size}); got some from {low} to {high}"
        )
    return torch.bincount(flat, minlength=codebook_size)


def share_used(count: Tensor) -> float:
    """Counts (K,) -> the share of codes that occur."""
    return int((count > 0).sum()) / len(count)


def perplexity(count: Tensor) -> float:
    """Counts (K,) -> exp(entropy): the number of codes that, equally used, would say as much."""
    share = count[count > 0].cpu().double() / int(count.sum())
    return float(torch.exp(-(share * share.log()).sum()))

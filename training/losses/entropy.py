"""Entropy of codes (MAGVIT-v2, arXiv 2310.05737): each token sure of its code, all codes used."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqtok.precision import ieee32
from vqtok.training.losses import widened
from vqtok.training.reduce import mean_over_ranks

__all__ = ["entropy"]

BLOCK = 1 << 24  # distances held at a time


def entropy(e: Tensor, codebook: Tensor, temperature: float) -> Tensor:
    """Vectors (N, D), codes (K, D) -> scalar: the mean of H(p) less H of the mean p.

    p is the softmax of -|e - q|² / temperature over codes. The mean is that of the micro-batch over
    all processes, each of which gets the gradient of its own part of it.
    """
    with torch.autocast(e.device.type, enabled=False):
        e, codebook = widened(e), widened(codebook)
        # Far from the origin products would have no digits left for differences of codes.
        middle = codebook.detach().mean(0)
        e, codebook = e - middle, codebook - middle
        rows = max(1, BLOCK // len(codebook))
        own, shares = e.new_zeros(()), e.new_zeros(len(codebook))
        for part in e.split(rows):
            # Recomputed in the backward pass, or all blocks would be held until then.
            sure, used = checkpoint(
                _part, part, codebook, temperature, use_reentrant=False, preserve_rng_state=False
            )
            own, shares = own + sure, shares + used
        mean = shares / len(e)
        mean = mean + (mean_over_ranks(mean.detach()) - mean.detach())
        spread: Tensor = torch.special.entr(mean.clamp_min(torch.finfo(mean.dtype).tiny)).sum()
        return own / len(e) - spread


def _part(e: Tensor, codebook: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sums over rows of H(p) and of p."""
    with ieee32():  # divided by a temperature of .01, the errors of TF32 are differences of codes
        # Without |e|², which the softmax does not see.
        logits = (2 * e @ codebook.T - codebook.square().sum(1)) / temperature
    logs = F.log_softmax(logits, 1)
    shares = logs.exp()
    return -(shares * logs).sum(), shares.sum(0)

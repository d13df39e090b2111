"""How much of a codebook is used. Papers mean three things by that, and the figures differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqtok.errors import CodesError, InputError

__all__ = ["Usage", "UsageSums", "code_usage", "count_codes", "perplexity", "share_used"]

# Pictures a batch in the rotation trick's paper, and tokens in LlamaGen's buffer.
BATCH = 256
WINDOW = 65_536

Bits = npt.NDArray[np.uint8]


class Usage(NamedTuple):
    """Shares of the codebook in [0, 1], each under a published definition, and the perplexity."""

    whole: float  # codes that occur anywhere in the set
    per_batch: float  # codes that occur in a batch of 256 pictures, averaged over batches
    window: float  # codes that occur among the last 65,536 tokens
    perplexity: float  # exp(entropy) of the set's code frequencies, in [1, K]


class UsageSums:
    """`Usage` of pictures that come in parts, in any order; one codebook.

    Batches and the window go by a picture's place in the set, 0, 1, ...: what is joined from
    several processes is what one process would have found.
    """

    def __init__(self, codebook_size: int) -> None:
        self.count = torch.zeros(codebook_size, dtype=torch.int64)
        # By the number of the batch, as bits: codes that occur in it, and its pictures seen so far.
        self.used: dict[int, Bits] = {}
        self.seen: dict[int, Bits] = {}
        # The pictures that hold the last tokens, by their place.
        self.last: dict[int, npt.NDArray[np.int32]] = {}

    def add(self, codes: Tensor, places: Sequence[int]) -> None:
        """Codes (N, *grid) of N pictures, in [0, codebook_size), and their places in the set."""
        self.count += count_codes(codes, len(self.count)).cpu()
        ids = codes.reshape(len(codes), -1).cpu().numpy().astype(np.int32)
        for place, row in zip(places, ids, strict=True):
            used = np.zeros(len(self.count), bool)
            used[row] = True
            seen = np.arange(BATCH) == place % BATCH
            self._join(place // BATCH, np.packbits(used), np.packbits(seen))
            self.last[place] = row
        self._forget()

    def merge(self, other: UsageSums) -> None:
        """Adds what `other` has seen."""
        for batch, used in other.used.items():
            self._join(batch, used, other.seen[batch])
        self.count = self.count + other.count
        self.last |= other.last
        self._forget()

    def result(self) -> Usage:
        """The figures."""
        sizes = {batch: int(np.unpackbits(seen).sum()) for batch, seen in self.seen.items()}
        full = [batch for batch, size in sizes.items() if size == BATCH] or list(sizes)
        shares = [int(np.unpackbits(self.used[batch]).sum()) for batch in sorted(full)]
        window = np.concatenate([self.last[place] for place in sorted(self.last)])[-WINDOW:]
        return Usage(
            share_used(self.count),
            sum(shares) / (len(shares) * len(self.count)),
            len(np.unique(window)) / len(self.count),
            perplexity(self.count),
        )

    def _join(self, batch: int, used: Bits, seen: Bits) -> None:
        if batch not in self.seen:
            self.used[batch], self.seen[batch] = used, seen
            return
        twice = np.flatnonzero(np.unpackbits(self.seen[batch] & seen))
        if len(twice):
            raise InputError(
                f"the picture at place {batch * BATCH + twice[0]} counts once; it came twice"
            )
        self.used[batch] = self.used[batch] | used
        self.seen[batch] = self.seen[batch] | seen

    def _forget(self) -> None:
        """Drops pictures that lie before the window."""
        kept = 0
        for place in sorted(self.last, reverse=True):
            if kept >= WINDOW:
                del self.last[place]
            else:
                kept += len(self.last[place])


def code_usage(codes: Tensor, codebook_size: int) -> Usage:
    """Codes (N, *grid) of N pictures, in [0, codebook_size) -> what is used of the codebook.

    Of several codebooks each has its own figures: call it with the codes of one. Batches of fewer
    than 256 pictures would count as whole ones and are left out, unless there are no others.
    """
    sums = UsageSums(codebook_size)
    sums.add(codes, range(len(codes)))
    return sums.result()


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

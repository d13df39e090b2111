"""What autoencoders share whose networks take a clip whole or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from vqtok.architectures.causal import Past
from vqtok.autoencoders.clips import AutoencoderClips
from vqtok.autoencoders.tiling import in_slices

__all__ = ["AutoencoderCausal", "Progress"]


class Progress:
    """How far a stream of one batch of clips has come, in one direction.

    It holds what each layer has to remember, for each slice and tile. Two streams have two.
    """

    def __init__(self) -> None:
        self._pasts: list[Past] = []

    def pasts(self) -> Iterator[Past]:
        """One after another in the order of slices and tiles, which is that of every piece."""
        yield from self._pasts
        while True:
            self._pasts.append(Past())
            yield self._pasts[-1]


class AutoencoderCausal(AutoencoderClips):
    """Clips to codes and back, whole or piece by piece, by networks that take no later frame in.

    A clip has `lead` + n * s frames, and codes 1 + n; where `causal`, the first is a picture's.

    Without gradients a clip goes through the networks in pieces even where it is given whole: its
    first `lead` frames, then s frames at a time. So memory is bounded, and a clip has the same
    codes, bit for bit, whether it is given whole or comes in as a stream, and whatever follows.
    With gradients, and in compiled or exported programs, a clip goes through as one; that is the
    same up to rounding. A program that takes any number of frames takes clips of two tokens or
    more: torch traces a length of one apart, so pictures have a program of their own.
    """

    causal: ClassVar[bool] = True

    @property
    def lead(self) -> int:
        """Frames of a clip's first token; all others have `stride[0]`."""
        frames: int = 1 if self.causal else self.stride[0]
        return frames

    @apply_forward_hook
    def encode_next(self, x: Tensor, progress: Progress) -> Tensor:
        """The next pixels of a stream in [-1, 1] -> their latents (B, D, 1, h, w).

        At its start these are `lead` frames (B, C, lead, H, W), and s frames from then on.
        """
        pasts = progress.pasts()

        def tile(part: Tensor) -> Tensor:
            return self._shrink(part, next(pasts))

        def item(part: Tensor) -> Tensor:
            return self.tiling.shrink(tile, part) if self.use_tiling else tile(part)

        return in_slices(item, self.pixels.inward(x), self.use_slicing)

    @apply_forward_hook
    def decode_next(self, vectors: Tensor, progress: Progress) -> Tensor:
        """The vectors of the next codes of a stream, (B, D, 1, h, w) -> their pixels.

        At its start these are `lead` frames (B, C, lead, H, W), and s frames from then on.
        """
        pasts = progress.pasts()

        def tile(part: Tensor) -> Tensor:
            return self._grow(part, next(pasts))

        def item(part: Tensor) -> Tensor:
            return self.tiling.grow(tile, part) if self.use_tiling else tile(part)

        return self.pixels.outward(in_slices(item, vectors.to(self.dtype), self.use_slicing))

    def _latents(self, pixels: Tensor) -> Tensor:
        self.grid_of(tuple(pixels.shape[2:]))
        if _as_one():
            return self._shrink(pixels, None)
        past, step = Past(), self.stride[0]
        sizes = [self.lead, *[step] * ((pixels.shape[2] - self.lead) // step)]
        return torch.cat([self._shrink(part, past) for part in pixels.split(sizes, 2)], 2)

    def _pixels(self, vectors: Tensor) -> Tensor:
        if _as_one():
            return self._grow(vectors, None)
        past = Past()
        return torch.cat([self._grow(part, past) for part in vectors.split(1, 2)], 2)

    def _shrink(self, pixels: Tensor, past: Past | None) -> Tensor:
        out: Tensor = self.quant_conv(self.encoder(pixels, past))
        return out

    def _grow(self, vectors: Tensor, past: Past | None) -> Tensor:
        out: Tensor = self.decoder(self.post_quant_conv(vectors), past)
        return out


def _as_one() -> bool:
    return torch.is_grad_enabled() or torch.compiler.is_compiling()

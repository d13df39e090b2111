"""One clip of any length as arrays, some frames at a time: to codes, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from vqtok.autoencoders.base import AutoencoderBase
from vqtok.autoencoders.streaming import ClipDecoder, ClipEncoder
from vqtok.errors import ImageError
from vqtok.metrics.pixels import to_uint8
from vqtok.pictures import Pixels
from vqtok.precision import Precision

__all__ = ["FrameDecoder", "FrameEncoder", "as_frames"]


class FrameEncoder:
    """Frames in, latents (1, D, t, h, w) and codes (1, t, h, w[, Q]) out as soon as there are any.

    What `push` and `finish` return is to be taken to its end before the next call.

    count  frames so far, without those that are repeated
    """

    def __init__(self, model: AutoencoderBase, precision: Precision = "ieee32") -> None:
        self.count = 0
        self._model = model
        self._stream = ClipEncoder(model, precision)
        self._last: Pixels | None = None

    def push(self, frames: Pixels) -> Iterator[tuple[Tensor, Tensor]]:
        """The next frames, (T, h, w, 3) uint8."""
        self.count += len(frames)
        self._last = frames[-1:].copy()
        return self._stream.push(_as_clip(frames))

    def finish(self) -> Iterator[tuple[Tensor, Tensor]]:
        """There is no more; the last frame is repeated as the model needs it."""
        if self._last is None:
            raise ImageError("a clip has at least one frame; got none")
        more = self._model.plan_frames(self.count).padded - self.count
        if more:
            yield from self._stream.push(_as_clip(self._last.repeat(more, 0)))
        yield from self._stream.finish()

    def all(self, chunks: Iterable[Pixels]) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of a whole clip."""
        for frames in chunks:
            yield from self.push(frames)
        yield from self.finish()


class FrameDecoder:
    """Codes (1, t, h, w[, Q]) in, frames (T, H, W, 3) uint8 out; see `FrameEncoder`.

    Frames that were repeated are among them.
    """

    def __init__(self, model: AutoencoderBase, precision: Precision = "ieee32") -> None:
        self._stream = ClipDecoder(model, precision)

    def push(self, codes: npt.NDArray[np.integer]) -> Iterator[Pixels]:
        """The next codes."""
        ids = torch.from_numpy(codes.astype(np.int64))
        return (as_frames(clip)[0] for clip in self._stream.push(ids))

    def finish(self) -> Iterator[Pixels]:
        """There is no more."""
        return (as_frames(clip)[0] for clip in self._stream.finish())

    def all(self, chunks: Iterable[npt.NDArray[np.integer]]) -> Iterator[Pixels]:
        """Those of a whole clip."""
        for codes in chunks:
            yield from self.push(codes)
        yield from self.finish()


def as_frames(clips: Tensor) -> Pixels:
    """(N, 3, T, H, W) in [-1, 1] -> (N, T, H, W, 3) uint8."""
    frames = to_uint8(rearrange(clips, "n c t h w -> (n t) c h w"))
    return rearrange(frames, "(n t) h w c -> n t h w c", n=len(clips))


def _as_clip(frames: Pixels) -> Tensor:
    """(T, h, w, 3) -> (1, 3, T, h, w)."""
    own = torch.from_numpy(np.ascontiguousarray(frames))
    return rearrange(own, "t h w c -> 1 c t h w").contiguous()

"""A torch autoencoder of clips as a `ClipCodec`: frames to codes and back, a few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.streaming import decode_stream, encode_stream, latent_stream
from vqtok.codec import TorchCodec
from vqtok.errors import CodesError, ImageError
from vqtok.frames import FramePlan
from vqtok.metrics.pixels import to_uint8
from vqtok.pictures import Pixels
from vqtok.types import Codes

__all__ = ["TorchClipCodec"]

# Frames, and tokens along time, that go through a model at a time. Ids do not depend on them.
FRAMES = 16
TOKENS = 4


class TorchClipCodec(TorchCodec):
    """A `TorchCodec` of clips; one may be longer than memory."""

    def encode(self, pixels: Pixels) -> Codes:
        """(N, T, H, W, 3) uint8, sides and frames as the model's `grid_of` has them -> codes."""
        x = self._batch(pixels, "clips", "T, H, W")
        size = pixels.shape[1:-1]
        self.model.grid_of(size)
        parts = list(encode_stream(self.model, [x], self.requested_precision))
        return self._codes(torch.cat(parts, 1), size)

    def encode_latents(self, pixels: Pixels) -> tuple[npt.NDArray[np.float32], Codes]:
        """See `TorchCodec.encode_latents`."""
        x = self._batch(pixels, "clips", "T, H, W")
        size = pixels.shape[1:-1]
        self.model.grid_of(size)
        return self._both(latent_stream(self.model, [x], self.requested_precision), size)

    def _both(
        self, parts: Iterable[tuple[Tensor, Tensor]], size: tuple[int, ...]
    ) -> tuple[npt.NDArray[np.float32], Codes]:
        """What `latent_stream` gave."""
        latents, ids = zip(*parts, strict=True)
        whole = torch.cat([each.float().cpu() for each in latents], 2)
        return whole.numpy(), self._codes(torch.cat(ids, 1), size)

    def plan_frames(self, count: int) -> FramePlan:
        """See `ClipCodec.plan_frames`."""
        plan: FramePlan = self.model.plan_frames(count)
        return plan

    def encode_frames(self, frames: Iterable[Pixels], size: tuple[int, int]) -> Codes:
        """See `ClipCodec.encode_frames`."""
        padded = _Padded(frames, self.model)
        parts = list(encode_stream(self.model, padded.chunks(), self.requested_precision))
        return self._codes(torch.cat(parts, 1), (padded.count, *size))

    def encode_frame_latents(
        self, frames: Iterable[Pixels], size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.float32], Codes]:
        """As `encode_frames`, and the latents (1, D, t, h, w) before quantization."""
        padded = _Padded(frames, self.model)
        parts = list(latent_stream(self.model, padded.chunks(), self.requested_precision))
        return self._both(parts, (padded.count, *size))

    def decode(self, codes: Codes) -> Pixels:
        """Codes of N clips -> all their pixels, (N, T, H, W, 3) uint8."""
        ids, _ = self._tensor(codes)
        chunks = decode_stream(self.model, [ids], self.requested_precision)
        return np.concatenate([_frames(chunk) for chunk in chunks], 1)

    def decode_frames(self, codes: Codes) -> Iterator[Pixels]:
        """See `ClipCodec.decode_frames`."""
        ids, _ = self._tensor(codes)
        if codes.sizes.shape != (1, 3):
            raise CodesError(
                f"frames come of one clip, so sizes has the shape (1, 3); got {codes.sizes.shape}"
            )
        count, height, width = codes.sizes[0].tolist()
        chunks = decode_stream(self.model, ids.split(TOKENS, 1), self.requested_precision)
        frames = (frame for chunk in chunks for frame in _frames(chunk)[0])
        for frame in islice(frames, count or None):
            yield frame[: height or None, : width or None]


class _Padded:
    """Frames (h, w, 3) that are counted, the last one repeated as the model needs it."""

    def __init__(self, frames: Iterable[Pixels], model: AutoencoderBase) -> None:
        self.count = 0
        self._frames = frames
        self._model = model

    def chunks(self) -> Iterator[Tensor]:
        """Some frames at a time, (1, 3, T, h, w)."""
        return map(_as_clip, _batched(self._all(), FRAMES))

    def _all(self) -> Iterator[Pixels]:
        for frame in self._frames:
            self.count += 1
            yield frame
        if not self.count:
            raise ImageError("a clip has at least one frame; got none")
        yield from [frame] * (self._model.plan_frames(self.count).padded - self.count)


def _batched(frames: Iterator[Pixels], count: int) -> Iterator[list[Pixels]]:
    while chunk := list(islice(frames, count)):
        yield chunk


def _as_clip(frames: list[Pixels]) -> Tensor:
    """(h, w, 3) each -> (1, 3, T, h, w)."""
    return rearrange(torch.from_numpy(np.stack(frames)), "t h w c -> 1 c t h w").contiguous()


def _frames(clips: Tensor) -> Pixels:
    """(N, 3, T, H, W) in [-1, 1] -> (N, T, H, W, 3) uint8."""
    frames = to_uint8(rearrange(clips, "n c t h w -> (n t) c h w"))
    return rearrange(frames, "(n t) h w c -> n t h w c", n=len(clips))

"""A torch autoencoder of clips as a `ClipCodec`: frames to codes and back, a few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqtok.autoencoders.frame_streams import FrameDecoder, FrameEncoder, as_frames
from vqtok.autoencoders.streaming import decode_stream, encode_stream, latent_stream
from vqtok.codec import TorchCodec
from vqtok.frames import FramePlan, cut
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
        self._traits.grid_of(size)
        parts = list(encode_stream(self.model, [x], self.requested_precision))
        return self._codes(torch.cat(parts, 1), size)

    def encode_latents(self, pixels: Pixels) -> tuple[npt.NDArray[np.float32], Codes]:
        """See `TorchCodec.encode_latents`."""
        x = self._batch(pixels, "clips", "T, H, W")
        size = pixels.shape[1:-1]
        self._traits.grid_of(size)
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
        return self._traits.plan_frames(count)

    def frame_encoder(self) -> FrameEncoder:
        """For one clip, whose frames are handed in some at a time."""
        return FrameEncoder(self.model, self.requested_precision)

    def frame_decoder(self) -> FrameDecoder:
        """For the codes of one clip, which are handed in some at a time."""
        return FrameDecoder(self.model, self.requested_precision)

    def encode_frames(self, frames: Iterable[Pixels], size: tuple[int, int]) -> Codes:
        """See `ClipCodec.encode_frames`."""
        encoder = self.frame_encoder()
        parts = [ids for _, ids in encoder.all(_batched(frames, FRAMES))]
        return self._codes(torch.cat(parts, 1), (encoder.count, *size))

    def encode_frame_latents(
        self, frames: Iterable[Pixels], size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.float32], Codes]:
        """As `encode_frames`, and the latents (1, D, t, h, w) before quantization."""
        encoder = self.frame_encoder()
        parts = list(encoder.all(_batched(frames, FRAMES)))
        return self._both(parts, (encoder.count, *size))

    def decode(self, codes: Codes) -> Pixels:
        """Codes of N clips -> all their pixels, (N, T, H, W, 3) uint8."""
        ids, _ = self._tensor(codes)
        chunks = decode_stream(self.model, [ids], self.requested_precision)
        return np.concatenate([as_frames(chunk) for chunk in chunks], 1)

    def decode_frames(self, codes: Codes) -> Iterator[Pixels]:
        """See `ClipCodec.decode_frames`."""
        self.check(codes)
        ids = codes.ids
        parts = (ids[:, start : start + TOKENS] for start in range(0, ids.shape[1], TOKENS))
        chunks = self.frame_decoder().all(parts)
        yield from cut((frame for chunk in chunks for frame in chunk), codes.sizes)


def _batched(frames: Iterable[Pixels], count: int) -> Iterator[Pixels]:
    """Frames (h, w, 3) -> some at a time, (T, h, w, 3)."""
    left = iter(frames)
    while chunk := list(islice(left, count)):
        yield np.stack(chunk)

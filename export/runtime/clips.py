"""ONNX graphs of clips as a `ClipCodec`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from vqtok.errors import ImageError
from vqtok.export.runtime.codec import Ids, OnnxCodec
from vqtok.frames import FramePlan, cut
from vqtok.pictures import Pixels
from vqtok.types import Codes

__all__ = ["OnnxClipCodec"]


class OnnxClipCodec(OnnxCodec):
    """An `OnnxCodec` of clips.

    A model with a window of frames takes a clip window by window, as on torch, so that the clip may
    be longer than memory. A causal one takes it whole: what its layers remember from one piece to
    the next is not in the graph, so a clip and all that the network makes of it have to fit into
    memory. Lone frames, for which causal models have graphs of their own, go through those.
    """

    WHAT, AXES = "clips", "T, H, W"

    def encode(self, pixels: Pixels) -> Codes:
        """(N, T, H, W, 3) uint8, sides and frames as `Traits.grid_of` has them -> codes."""
        self._check(pixels)
        step = self.traits.window or pixels.shape[1]
        parts = [
            self._encoded(pixels[:, start : start + step])
            for start in range(0, pixels.shape[1], step)
        ]
        return self._codes(np.concatenate(parts, 1), pixels.shape[1:-1])

    def plan_frames(self, count: int) -> FramePlan:
        """See `ClipCodec.plan_frames`."""
        return self.traits.plan_frames(count)

    def encode_frames(self, frames: Iterable[Pixels], size: tuple[int, int]) -> Codes:
        """See `ClipCodec.encode_frames`; of a causal model memory holds the whole clip."""
        padded = _Padded(frames, self)
        parts: list[Ids] = []
        for clip in padded.windows():
            self._check(clip)
            parts.append(self._encoded(clip))
        return self._codes(np.concatenate(parts, 1), (padded.count, *size))

    def decode(self, codes: Codes) -> Pixels:
        """Codes of N clips -> all their pixels, (N, T, H, W, 3) uint8."""
        self._check_codes(codes)
        return np.concatenate(list(self._windows(codes)), 1)

    def decode_frames(self, codes: Codes) -> Iterator[Pixels]:
        """See `ClipCodec.decode_frames`."""
        self._check_codes(codes)
        yield from cut((frame for clip in self._windows(codes) for frame in clip[0]), codes.sizes)

    def _windows(self, codes: Codes) -> Iterator[Pixels]:
        """The pixels (N, T, H, W, 3) of one window after another."""
        traits, tokens = self.traits, codes.ids.shape[1]
        step = traits.window // traits.stride[0] if traits.window else tokens
        for start in range(0, tokens, step):
            ids = codes.ids[:, start : start + step]
            yield self._decoded(ids, traits.size_of(ids.shape[1:4]))

    def _graph(self, role: str, grid: tuple[int, ...]) -> Any:
        alone = f"picture_{role}"
        named = alone if grid[0] == 1 and alone in self._exported.roles else role
        return self._sessions.graph(named)


class _Padded:
    """Frames (h, w, 3) that are counted, the last one repeated as the model needs it."""

    def __init__(self, frames: Iterable[Pixels], codec: OnnxClipCodec) -> None:
        self.count = 0
        self._frames = frames
        self._codec = codec

    def windows(self) -> Iterator[Pixels]:
        """What goes through the graph at a time, (1, T, h, w, 3)."""
        frames, window = self._all(), self._codec.traits.window
        while clip := list(islice(frames, window)):
            yield np.stack(clip)[None]

    def _all(self) -> Iterator[Pixels]:
        for frame in self._frames:
            self.count += 1
            yield frame
        if not self.count:
            raise ImageError("a clip has at least one frame; got none")
        yield from [frame] * (self._codec.plan_frames(self.count).padded - self.count)

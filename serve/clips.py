"""Clips through a codec and back, a few frames at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.serve.facts import Facts
from vqtok.serve.items import Item, Parts, codes_of, parts_of, quiet
from vqtok.serve.passages import passage_of
from vqtok.serve.slab import Op
from vqtok.serve.streams import Passage
from vqtok.types import Codec, Codes

__all__ = ["ClipRunner"]


class ClipRunner:
    """What `TokenizerEngine` does with clips: one after another, whatever came along with them."""

    def __init__(self, codec: Codec, facts: Facts) -> None:
        self.facts = facts
        self._codec: Any = codec
        self.beat: Callable[[], None] = quiet
        self._work: dict[Op, Callable[[Item], Parts]] = {
            Op.ENCODE: self._encode,
            Op.LATENTS: self._latents,
            Op.DECODE: self._decode,
            Op.DECODE_LATENTS: self._decode_latents,
            Op.RECONSTRUCT: self._reconstruct,
        }

    def warm_up(self, max_batch: int) -> None:
        """There and back, once with a picture and once with a clip of two tokens."""
        settings, stride = self.facts.preprocess, self.facts.preprocess.stride
        sides = (8 * stride, 8 * stride) if settings.keeps_size else settings.sides
        for count in (1, 1 + self.facts.traits.stride[0]):
            size = (count, *sides)
            self.run(Op.RECONSTRUCT, [Item({"pixels": np.zeros((*size, 3), np.uint8)}, size)])

    def run(self, op: Op, items: Sequence[Item]) -> list[Parts]:
        """See `Engine.run`."""
        return [self._work[op](item) for item in items]

    def passage(self, op: Op) -> Passage:
        """See `Engine.passage`."""
        return passage_of(self._codec, self.facts, op)

    # --- one kind of work each ----------------------------------------------------------------

    def _encode(self, item: Item) -> Parts:
        return parts_of(self.facts, self._codec.encode_frames(*self._frames(item)))[0]

    def _latents(self, item: Item) -> Parts:
        latents, codes = self._codec.encode_frame_latents(*self._frames(item))
        return {**parts_of(self.facts, codes)[0], "latents": latents[0]}

    def _decode(self, item: Item) -> Parts:
        ids = item.parts["codes"]
        if ids.ndim == 2 + bool(self.facts.traits.depth):
            ids = ids[None]
        return {"pixels": self._pixels(codes_of(self.facts, ids[None], [item]), item)}

    def _decode_latents(self, item: Item) -> Parts:
        codes = self._codec.quantized(item.parts["latents"][None])
        return {"pixels": self._pixels(codes_of(self.facts, codes.ids, [item]), item)}

    def _reconstruct(self, item: Item) -> Parts:
        codes = self._codec.encode_frames(*self._frames(item))
        return {**parts_of(self.facts, codes)[0], "pixels": self._pixels(codes, item)}

    # --- inside -----------------------------------------------------------------------------

    def _frames(self, item: Item) -> tuple[Iterator[npt.NDArray[np.uint8]], tuple[int, int]]:
        """The frames one by one, and the height and width that come back."""
        pixels = item.parts["pixels"]
        frames = pixels[None] if pixels.ndim == 3 else pixels
        height, width = item.size[-2:] or frames.shape[1:3]
        return self._beating(iter(frames)), (height, width)

    def _pixels(self, codes: Codes, item: Item) -> npt.NDArray[np.uint8]:
        """All frames (T, H, W, 3) of one clip; of a picture (H, W, 3)."""
        self.facts.check_codes(codes)
        frames = self._beating(self._codec.decode_frames(codes))
        whole = self.facts.decoded_size(codes)
        shown = zip(codes.sizes[0].tolist(), whole, strict=True)
        pixels = np.empty((*(side or most for side, most in shown), 3), np.uint8)
        for room, frame in zip(pixels, frames, strict=True):
            room[:] = frame
        return pixels[0] if len(item.size) == 2 else pixels

    def _beating(self, frames: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        for frame in frames:
            self.beat()
            yield frame

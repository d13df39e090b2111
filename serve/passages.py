"""Clips longer than a slot on their way through a codec, which remembers what it has to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError
from vqtok.pictures import Pixels
from vqtok.serve.facts import Facts
from vqtok.serve.items import Item, Parts
from vqtok.serve.slab import Op
from vqtok.serve.streams import Passage

__all__ = ["passage_of"]

T = TypeVar("T")


def passage_of(codec: Any, facts: Facts, op: Op) -> Passage:
    """For one clip; `InputError` where the codec takes no clip piece by piece."""
    if not hasattr(codec, "frame_encoder"):
        raise InputError(
            f"{facts.name} takes no clip piece by piece here, only those that a slot holds whole"
        )
    if op in (Op.ENCODE, Op.LATENTS):
        return _Encoding(codec, facts, op)
    return _Decoding(codec)


class _Encoding:
    """Frames -> codes of the tokens that they complete, and the latents where these are wanted."""

    def __init__(self, codec: Any, facts: Facts, op: Op) -> None:
        self._encoder = codec.frame_encoder()
        self._dtype, self._op = facts.traits.dtype, op

    def step(self, item: Item, last: bool, beat: Callable[[], None]) -> Parts:
        """See `Passage.step`."""
        found = list(_beating(self._encoder.push(item.parts["pixels"]), beat))
        if last:
            found += _beating(self._encoder.finish(), beat)
        if not found:
            return {}
        ids = np.concatenate([ids.cpu().numpy()[0] for _, ids in found])
        parts = {"codes": ids.astype(self._dtype)}
        if self._op == Op.LATENTS:
            latents = [each.float().cpu().numpy()[0] for each, _ in found]
            parts["latents"] = np.concatenate(latents, 1)
        return parts


class _Decoding:
    """Codes, or latents -> frames, without those that were repeated."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec
        self._decoder = codec.frame_decoder()
        self._seen = 0

    def step(self, item: Item, last: bool, beat: Callable[[], None]) -> Parts:
        """See `Passage.step`."""
        frames = list(_beating(self._decoder.push(self._codes(item)), beat))
        if last:
            frames += _beating(self._decoder.finish(), beat)
        return {"pixels": self._cut(frames, item.size)} if frames else {}

    def _codes(self, item: Item) -> npt.NDArray[np.integer]:
        if "codes" in item.parts:
            return item.parts["codes"][None]
        ids: npt.NDArray[np.integer] = self._codec.quantized(item.parts["latents"][None]).ids
        return ids

    def _cut(self, frames: list[Pixels], size: tuple[int, ...]) -> Pixels:
        """To the clip's size, of which 0 is not known."""
        count, height, width = size
        pixels = np.concatenate(frames)
        left = max(0, count - self._seen) if count else None
        self._seen += len(pixels)
        return pixels[:left, : height or None, : width or None]


def _beating(found: Iterable[T], beat: Callable[[], None]) -> Iterator[T]:
    for one in found:
        beat()
        yield one

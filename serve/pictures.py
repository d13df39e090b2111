"""Batches of pictures through a codec and back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqtok.serve.facts import Facts
from vqtok.serve.items import Item, Parts, codes_of, cut, parts_of, quiet
from vqtok.serve.slab import Op
from vqtok.serve.staging import Staging

if TYPE_CHECKING:
    from vqtok.types import Codec

__all__ = ["PictureRunner"]

# Of pictures that keep their size: as many go together as have no more pixels than `max_batch`
# of this side.
SIDE = 256
# Seconds that a batch may take where larger ones are hardly any faster, which is beside GPUs: so
# nobody waits for long behind one, and a worker that is at work is not taken for one that hangs.
BRIEF = 1.0


class PictureRunner:
    """What `TokenizerEngine` does with pictures; see its settings."""

    def __init__(self, codec: Codec, facts: Facts, padding: str, max_batch: int, gpu: bool) -> None:
        self.facts = facts
        self.padding = padding
        self.max_batch = max_batch
        self._codec: Any = codec
        # Others than torch have memory of their own on the way to a GPU.
        self._staging = Staging(pinned=gpu and not isinstance(codec.device, str))
        self._gpu = gpu
        self._pixels = math.inf  # of a batch at most, as `warm_up` finds it
        self.beat: Callable[[], None] = quiet
        self._work: dict[Op, Callable[[Sequence[Item]], Iterator[Parts]]] = {
            Op.ENCODE: self._encode,
            Op.LATENTS: self._latents,
            Op.DECODE: self._decode,
            Op.DECODE_LATENTS: self._decode_latents,
            Op.RECONSTRUCT: self._reconstruct,
        }

    def warm_up(self, max_batch: int) -> None:
        """There and back, for each shape of batches of pictures of the usual size."""
        sides = self._usual_sides()
        most = min(self._most(sides), max_batch)
        item = Item({"pixels": np.zeros((*sides, 3), np.uint8)}, sides)
        self.run(Op.RECONSTRUCT, [item])
        if self._gpu:
            for count in sorted({most, *(1 << power for power in range(1, most.bit_length()))}):
                self.run(Op.RECONSTRUCT, [item] * count)
        else:
            begin = time.perf_counter()
            self.run(Op.RECONSTRUCT, [item])
            self._pixels = math.prod(sides) * BRIEF / (time.perf_counter() - begin)

    def run(self, op: Op, items: Sequence[Item]) -> list[Parts]:
        """See `Engine.run`."""
        return list(self._work[op](items))

    def rows(self, item: Item) -> int:
        """How many like this one go through the model together."""
        return self._most(self._sides(item))

    # --- one kind of work each ----------------------------------------------------------------

    def _encode(self, items: Sequence[Item]) -> Iterator[Parts]:
        for some, pixels in self._batches(items, "pixels"):
            yield from parts_of(self.facts, self._codec.encode(pixels)[: len(some)])

    def _latents(self, items: Sequence[Item]) -> Iterator[Parts]:
        for some, pixels in self._batches(items, "pixels"):
            latents, codes = self._codec.encode_latents(pixels)
            found = parts_of(self.facts, codes[: len(some)])
            yield from ({**one, "latents": h} for one, h in zip(found, latents, strict=False))

    def _decode(self, items: Sequence[Item]) -> Iterator[Parts]:
        for some, ids in self._batches(items, "codes"):
            pixels = self._codec.decode(codes_of(self.facts, ids, some))
            yield from ({"pixels": cut(*pair)} for pair in zip(pixels, some, strict=False))

    def _decode_latents(self, items: Sequence[Item]) -> Iterator[Parts]:
        for item in items:
            self.facts.check_size(item.parts["latents"].shape[1:], item.size)
        for some, latents in self._batches(items, "latents"):
            pixels = self._codec.decode_latents(latents)
            yield from ({"pixels": cut(*pair)} for pair in zip(pixels, some, strict=False))

    def _reconstruct(self, items: Sequence[Item]) -> Iterator[Parts]:
        for some, pixels in self._batches(items, "pixels"):
            codes = self._codec.encode(pixels)
            found = parts_of(self.facts, codes[: len(some)])
            back = zip(found, self._codec.decode(codes), some, strict=False)
            yield from ({**one, "pixels": cut(whole, item)} for one, whole, item in back)

    # --- inside -----------------------------------------------------------------------------

    def _batches(
        self, items: Sequence[Item], part: str
    ) -> Iterator[tuple[Sequence[Item], npt.NDArray[Any]]]:
        """Some items at a time, and that part of them as a batch, zeros behind it."""
        most = self.rows(items[0])
        for start in range(0, len(items), most):
            self.beat()
            some = items[start : start + most]
            arrays = [item.parts[part] for item in some]
            yield some, self._staging.lay(arrays, self._padded(len(some), most))

    def _most(self, sides: Sequence[int]) -> int:
        """How many pictures of these sides go through the model together."""
        if self.padding == "alone":
            return 1
        settings = self.facts.preprocess
        area = SIDE * SIDE if settings.keeps_size else math.prod(settings.sides)
        pixels = min(self.max_batch * area, self._pixels)
        return max(1, min(self.max_batch, int(pixels // max(1, math.prod(sides)))))

    def _sides(self, item: Item) -> Sequence[int]:
        """Height and width of the pixels that go in or come out."""
        if "pixels" in item.parts:
            return item.parts["pixels"].shape[:2]
        if "latents" in item.parts:
            return self.facts.traits.size_of(item.parts["latents"].shape[1:])
        codes = codes_of(self.facts, item.parts["codes"][None], [item])
        self.facts.check_codes(codes)  # of a batch, the codec checks them all
        return self.facts.decoded_size(codes)

    def _padded(self, count: int, most: int) -> int:
        """How long a batch of so many is made, of at most `most`."""
        return count if self.padding == "none" else min(most, 1 << (count - 1).bit_length())

    def _usual_sides(self) -> tuple[int, int]:
        settings = self.facts.preprocess
        if not settings.keeps_size:
            return settings.sides
        side = max(1, SIDE // settings.stride) * settings.stride
        return side, side

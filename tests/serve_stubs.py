"""An engine without torch, whose codes follow from pixels and back, and that fails on request.

A code is made of the red and the green of the pixel at its cell's corner, so that
`encode(decode(codes)) == codes` for codes below 4,096; latents are the same two colours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError
from vqtok.preprocess import Preprocess
from vqtok.serve.engine import Item, Parts
from vqtok.serve.facts import Facts
from vqtok.serve.slab import Op
from vqtok.traits import Traits
from vqtok.types import Fingerprint

STRIDE = 16
FRAMES = 4
CODEBOOK = 4096
Colour = tuple[int, int, int]


def stub_facts(
    name: str = "stub", *, size: int | None = 256, video: bool = False, **changes: object
) -> Facts:
    """Facts of a stub; `changes` are of its facts or traits.

    Without a size pictures keep theirs (multiples of 16).
    """
    settings = (
        Preprocess(policy="native", stride=STRIDE)
        if size is None
        else Preprocess(policy="center", size=size, stride=STRIDE)
    )
    traits = Traits(
        codebook_size=CODEBOOK,
        depth=0,
        axes=3 if video else 2,
        stride=((FRAMES,) if video else ()) + (STRIDE, STRIDE),
        latent_channels=2,
    )
    own = {key: changes.pop(key) for key in list(changes) if hasattr(traits, key)}
    facts = Facts(
        name=name,
        tokenizer=f"{name}-tokenizer",
        version="0",
        fingerprint=Fingerprint(**{part: str(n) * 64 for n, part in enumerate(PRINT)}),
        precision="ieee32",
        preprocess=settings,
        traits=replace(traits, **own),  # type: ignore[arg-type]
        check="exact",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


PRINT = ("preprocess", "encoder", "codebook", "decoder")


@dataclass
class StubEngine:
    """See the module. Pictures whose first pixel (or code's colour) is one of these fail.

    per_batch, per_picture  seconds that they take
    poison   raises a ValueError; refused: an InputError
    kill     ends the process; hang: takes `hang_seconds`
    fatal    raises what a device says that can't be used any more
    oom      longer batches run out of memory
    together how many pictures go through at once; of clips one
    runs     the batches so far, as (op, length)
    """

    facts: Facts = field(default_factory=stub_facts)
    per_batch: float = 0.0
    per_picture: float = 0.0
    poison: Colour | None = None
    refused: Colour | None = None
    kill: Colour | None = None
    hang: Colour | None = None
    fatal: Colour | None = None
    hang_seconds: float = 3600.0
    oom: int | None = None
    warm_seconds: float = 0.0
    runs: list[tuple[Op, int]] = field(default_factory=list)
    together: int = 1 << 20

    def __call__(self, device: str) -> StubEngine:
        """As a `Load`: the engine itself, whatever the device."""
        return self

    def warm_up(self, max_batch: int, beat: Callable[[], None]) -> None:
        time.sleep(self.warm_seconds)

    def rows(self, item: Item) -> int:
        return 1 if self.facts.traits.is_video else self.together

    def run(self, op: Op, items: Sequence[Item], beat: Callable[[], None]) -> list[Parts]:
        self.runs.append((op, len(items)))
        if self.oom is not None and len(items) > self.oom:
            raise MemoryError(f"out of memory with {len(items)} pictures")
        for item in items:
            self._fail(_first_pixel(op, item))
        if self.per_batch or self.per_picture:
            time.sleep(self.per_batch + self.per_picture * len(items))
        return [self._one(op, item) for item in items]

    def passage(self, op: Op) -> StubPassage:
        return StubPassage(self, op)

    def _fail(self, pixel: Colour) -> None:
        if pixel == self.poison:
            raise ValueError("a poisoned picture")
        if pixel == self.refused:
            raise InputError("this picture cannot be done")
        if pixel == self.fatal:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if pixel == self.kill:
            os._exit(9)
        if pixel == self.hang:
            time.sleep(self.hang_seconds)

    def _one(self, op: Op, item: Item) -> Parts:
        clip = self.facts.traits.is_video
        if op in (Op.ENCODE, Op.LATENTS, Op.RECONSTRUCT):
            cells = corners(item.parts["pixels"], clip)
            codes = codes_of(cells, self.facts.traits.dtype)
            if op == Op.ENCODE:
                return {"codes": codes}
            if op == Op.LATENTS:
                return {"codes": codes, "latents": latents_of(cells)}
            return {"codes": codes, "pixels": pixels_of(codes, item.size)}
        if op == Op.DECODE:
            return {"pixels": pixels_of(item.parts["codes"], item.size)}
        return {"pixels": pixels_of(codes_of_latents(item.parts["latents"]), item.size)}


@dataclass
class StubPassage:
    """A clip in chunks of any lengths, of which it holds what fills no token yet."""

    engine: StubEngine
    op: Op
    rest: npt.NDArray[np.uint8] | None = None
    seen: int = 0

    def step(self, item: Item, last: bool, beat: Callable[[], None]) -> Parts:
        beat()
        self.engine.runs.append((self.op, 1))
        self.engine._fail(_first_pixel(self.op, item))
        time.sleep(self.engine.per_batch)
        if self.op in (Op.ENCODE, Op.LATENTS):
            return self._encoded(item.parts["pixels"], last)
        count, height, width = item.size
        pixels = self.engine._one(self.op, Item(item.parts, ()))["pixels"]
        left = max(0, count - self.seen) if count else None
        self.seen += len(pixels)
        return {"pixels": pixels[:left, : height or None, : width or None]}

    def _encoded(self, frames: npt.NDArray[np.uint8], last: bool) -> Parts:
        whole = frames if self.rest is None else np.concatenate([self.rest, frames])
        full = len(whole) if last else len(whole) // FRAMES * FRAMES
        self.rest = whole[full:].copy()
        done = whole[:full]
        return self.engine._one(self.op, Item({"pixels": done}, done.shape[:-1])) if full else {}


def corners(pixels: npt.NDArray[np.uint8], clip: bool) -> npt.NDArray[np.uint8]:
    """The pixel at the corner of each cell: (*grid, 3). A clip's picture has one frame."""
    if clip and pixels.ndim == 3:
        pixels = pixels[None]
    strides = (FRAMES, STRIDE, STRIDE) if clip else (STRIDE, STRIDE)
    return pixels[tuple(slice(None, None, stride) for stride in strides)]


def codes_of(cells: npt.NDArray[np.uint8], dtype: npt.DTypeLike = "<u2") -> npt.NDArray[np.integer]:
    """Corners (*grid, 3) -> codes (*grid)."""
    return (cells[..., 0] + (cells[..., 1] & np.uint16(15)) * 256).astype(dtype)


def latents_of(cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Corners (*grid, 3) -> latents (2, *grid)."""
    return np.moveaxis(cells[..., :2], -1, 0).astype(np.float32)


def codes_of_latents(latents: npt.NDArray[np.float32]) -> npt.NDArray[np.integer]:
    """Latents (2, *grid) -> codes (*grid)."""
    return codes_of(np.moveaxis(latents, 0, -1).astype(np.uint8))


def pixels_of(codes: npt.NDArray[np.integer], size: tuple[int, ...] = ()) -> npt.NDArray[np.uint8]:
    """Codes (*grid) -> pixels in one colour a cell, cut to `size` where it is known."""
    cells = np.stack([codes & 255, codes >> 8, codes % 251], -1).astype(np.uint8)
    strides = (FRAMES, STRIDE, STRIDE)[3 - codes.ndim :]
    for axis, stride in enumerate(strides):
        cells = cells.repeat(stride, axis)
    if codes.ndim == 3 and len(size) == 2:
        cells = cells[0]
    if any(size):
        cells = cells[tuple(slice(side) for side in size)]
    return np.ascontiguousarray(cells)


def picture(
    seed: int = 0, size: tuple[int, ...] = (256, 256), first: Colour | None = None
) -> npt.NDArray[np.uint8]:
    """Random pixels (*size, 3), whose first pixel is `first` where that is given."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    if first is not None:
        pixels.reshape(-1, 3)[0] = first
    return pixels


def _first_pixel(op: Op, item: Item) -> Colour:
    if "pixels" in item.parts:
        red, green, blue = item.parts["pixels"].reshape(-1, 3)[0].tolist()
        return red, green, blue
    if "codes" in item.parts:
        code = int(item.parts["codes"].flat[0])
        return code & 255, code >> 8, code % 251
    red, green = item.parts["latents"].reshape(2, -1)[:, 0].astype(int).tolist()
    return red, green, 0

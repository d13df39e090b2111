"""Clips through a codec: what memory they take on their way."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
from serve_stubs import stub_facts

from vqtok.serve.clips import ClipRunner
from vqtok.serve.items import Item
from vqtok.serve.slab import Op
from vqtok.types import Codes

SIDE = 256


class Frames:
    """A codec that makes a clip's frames one by one, each of another grey."""

    def __init__(self, more: int = 0) -> None:
        self.more = more

    def decode_frames(self, codes: Codes) -> Iterator[np.ndarray]:
        count, height, width = codes.sizes[0].tolist()
        for grey in range((count or 4 * codes.grid[0]) + self.more):
            yield np.full((height or SIDE, width or SIDE, 3), grey, np.uint8)


def decoded(tokens: int, size: tuple[int, ...], codec: Any = None) -> np.ndarray:
    facts = stub_facts(video=True)
    runner = ClipRunner(codec or Frames(), facts)
    item = Item({"codes": np.zeros((tokens, 16, 16), np.uint16)}, size)
    return runner.run(Op.DECODE, [item])[0]["pixels"]


def test_frames_are_held_once() -> None:
    decoded(1, ())
    tracemalloc.start()
    pixels = decoded(8, ())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels.shape == (32, SIDE, SIDE, 3)
    assert pixels[:, 0, 0, 0].tolist() == list(range(32))
    assert pixels.nbytes < peak < 1.2 * pixels.nbytes


def test_frames_are_cut_as_their_size_says() -> None:
    assert decoded(2, (7, 250, 256)).shape == (7, 250, SIDE, 3)
    assert decoded(1, (250, 256)).shape == (250, SIDE, 3)
    assert decoded(1, ()).shape == (4, SIDE, SIDE, 3)

"""What is asked about one picture or clip, and what all engines do with it. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok import batches
from vqtok.serve.facts import Facts
from vqtok.types import Codes

__all__ = ["Item", "Parts", "codes_of", "cut", "parts_of", "quiet"]

Parts = dict[str, npt.NDArray[Any]]


class Item(NamedTuple):
    """What is asked about one picture or clip.

    parts  pixels   (h, w, 3) or (t, h, w, 3) uint8, as preprocessing made them
           codes    (*grid[, Q]), and of several scales their `scales` (S, 2)
           latents  (D, *grid) float32
    size   of the pixels that come back: (h, w), or (t, h, w) of a clip; 0 where it isn't known.
           A model of clips that is given (h, w) takes a picture, and gives one back
    """

    parts: Mapping[str, npt.NDArray[Any]]
    size: tuple[int, ...] = ()


def codes_of(facts: Facts, ids: npt.NDArray[Any], items: Sequence[Item]) -> Codes:
    """The ids (N, *grid[, Q]) of items, and of zeros behind them, as `Codes`, not yet checked."""
    scales = items[0].parts.get("scales")
    shown = () if scales is None else tuple((int(h), int(w)) for h, w in scales)
    axes = 3 if facts.traits.is_video else 2
    sizes = np.zeros((len(ids), axes), np.int32)
    for row, item in enumerate(items):
        size = item.size or (0,) * axes
        sizes[row] = (1, *size) if len(size) < axes else size
    codes = Codes(ids, sizes, facts.traits.codebook_size, depth=facts.traits.depth, scales=shown)
    return facts.scaled(codes)


def parts_of(facts: Facts, codes: Codes) -> list[Parts]:
    """Codes as the parts of an answer each."""
    ids = codes.ids.astype(facts.traits.dtype)
    if not codes.scales:
        return [{"codes": grid} for grid in ids]
    scales = np.array(codes.scales, np.int32)
    return [{"codes": grid, "scales": scales} for grid in ids]


def cut(pixels: npt.NDArray[np.uint8], item: Item) -> npt.NDArray[np.uint8]:
    """A picture (H, W, 3) or clip (T, H, W, 3) as large as it went in."""
    return batches.cut(pixels, item.size)


def quiet() -> None:
    """What is called where a beat is due and nobody listens."""

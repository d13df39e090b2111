"""Many pictures through a codec: what is alike goes together, and memory holds a part of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError
from vqtok.preprocess import Prepared, Preprocess, prepare
from vqtok.sequences import named
from vqtok.types import Codec, Codes, Encoder, axes_text

__all__ = ["as_codes", "cut", "decoded", "encode_images", "encode_pixels", "memory"]

Pixels = npt.NDArray[np.uint8]
# Preprocessed pixels that wait for the encoder, in bytes; with policy native a few photographs take
# what hundreds of small squares do.
WAITING = 1 << 28


def encode_images(
    encoder: Encoder, settings: Preprocess, images: Any, batch_size: int
) -> list[Codes]:
    """One picture or several, from any source -> codes, each a batch of one."""
    codes: list[Codes] = []
    for run in _runs(images, settings):
        found = encode_pixels(encoder, [one.pixels for one in run], batch_size)
        sizes = [np.array([one.size], np.int32) for one in run]
        codes += [replace(one, sizes=size) for one, size in zip(found, sizes, strict=True)]
    return codes


def encode_pixels(encoder: Encoder, pixels: Sequence[Pixels], batch_size: int) -> list[Codes]:
    """Preprocessed pixels (h, w, 3) each -> codes, each a batch of one."""
    codes: dict[int, Codes] = {}
    for rows in _groups([picture.shape for picture in pixels], batch_size):
        batch = encoder.encode(np.stack([pixels[row] for row in rows]))
        codes.update(zip(rows, batch, strict=True))
    return [codes[row] for row in range(len(pixels))]


def decoded(codec: Codec, codes: Sequence[Codes], batch_size: int) -> Iterator[tuple[int, Pixels]]:
    """Codes, each a batch of one -> (its index, its pixels (H, W, 3)), in any order.

    A picture whose size its codes know is cut to it: some grids stand for a little more.
    """
    kinds = [
        (one.ids.shape, one.codebook, one.codebook_size, one.depth, one.scales) for one in codes
    ]
    for rows in _groups(kinds, batch_size):
        pixels = codec.decode(_join([codes[row] for row in rows]))
        for row, whole in zip(rows, pixels, strict=True):
            yield row, cut(whole, codes[row].sizes[0].tolist())


def cut(pixels: Pixels, size: Sequence[int]) -> Pixels:
    """A picture (H, W, 3) or clip (T, H, W, 3) as large as it went in; 0 is a side not known."""
    return pixels[tuple(slice(side or None) for side in size)]


def memory(length: int, *, pinned: bool) -> npt.NDArray[np.uint8]:
    """Bytes with anything in them for batches to lie in.

    pinned  whether a GPU is to fetch them by itself; that memory takes long to make
    """
    if not pinned:
        return np.empty(length, np.uint8)
    import torch

    whole: npt.NDArray[np.uint8] = torch.empty(length, dtype=torch.uint8, pin_memory=True).numpy()
    return whole


def as_codes(grids: Any, codebook_size: int, depth: int, axes: int = 2) -> list[Codes]:
    """`Codes`, or a collection of grids or `Codes` -> codes, one a picture or clip.

    A grid has so many `axes`, and one more where tokens have several codes. The grid (h, w) is
    taken for a clip of one frame, too.
    """
    if isinstance(grids, Codes):
        return list(grids)
    if not isinstance(grids, Iterable):
        raise CodesError(f"grids of codes come as a list or as `Codes`; got {grids!r}")
    found: list[Codes] = []
    for grid in grids:
        found += grid if isinstance(grid, Codes) else [_as_codes(grid, codebook_size, depth, axes)]
    return found


def _as_codes(grid: Any, codebook_size: int, depth: int, axes: int) -> Codes:
    try:
        # Tensors may lie on another device.
        ids = np.asarray(grid.cpu() if hasattr(grid, "cpu") else grid)
    except ValueError:
        raise CodesError("a grid of codes is one array; got rows of unequal length") from None
    if axes == 3 and ids.ndim == 2 + bool(depth):
        ids = ids[None]
    if ids.ndim != axes + bool(depth):
        shape = axes_text(axes, "Q" if depth else 0)
        raise CodesError(f"a list of grids of codes, each {shape}, is needed; one is {ids.shape}")
    sizes = np.zeros((1, 3 if axes == 3 else 2), np.int32)
    return Codes(ids[None], sizes, codebook_size, depth=depth)


def _runs(images: Any, settings: Preprocess) -> Iterator[list[Prepared]]:
    """Pictures as the encoder sees them, as many at a time as may wait in memory."""
    run: list[Prepared] = []
    held = 0
    for source, name in named(images):
        run.append(prepare(source, settings, name=name))
        held += run[-1].pixels.nbytes
        if held >= WAITING:
            yield run
            run, held = [], 0
    if run:
        yield run


def _groups(kinds: Sequence[Hashable], batch_size: int) -> Iterator[list[int]]:
    """Indices of equal kind, at most `batch_size` at a time."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for index, kind in enumerate(kinds):
        rows[kind].append(index)
    for group in rows.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _join(codes: Sequence[Codes]) -> Codes:
    first = codes[0]
    ids = np.concatenate([one.ids for one in codes])
    sizes = np.concatenate([one.sizes for one in codes])
    return replace(first, ids=ids, sizes=sizes)

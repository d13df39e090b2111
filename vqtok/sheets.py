"""Pictures for people: originals, their reconstructions and maps of their codes, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.types import Codes

__all__ = [
    "code_colours",
    "code_map",
    "colours_of",
    "gallery",
    "map_of",
    "number_colours",
    "plane",
    "sheet",
]

Pixels = npt.NDArray[np.uint8]
GAP = 4
# What leaves no two of many numbers near each other in both: of the plastic ratio.
STEPS = 0.7548776662466927, 0.5698402909980532


def colours_of(tok: VisualTokenizer) -> Pixels:
    """(K, 3) uint8: a colour for each code; with several codes a token, for each first one.

    These differ in the vectors by the first code alone, all others being 0. Where there are no
    vectors, as on ONNX Runtime, a colour is that of a number, and like codes have any.
    """
    if not tok.has_model:
        return number_colours(tok.codebook_size)
    ids = np.arange(tok.codebook_size)
    if tok.vocab.depth:
        ids = np.pad(ids[:, None], ((0, 0), (0, tok.vocab.depth - 1)))
    return code_colours(tok.vectors(ids).cpu().numpy())


def code_colours(codebook: npt.NDArray[np.float32]) -> Pixels:
    """(K, D) -> (K, 3) uint8: like colours for like codes.

    The first three principal axes of the codebook are brightness and two differences of colour,
    each spread evenly by rank, so that a few far codes do not leave all others grey.
    """
    centred = codebook - codebook.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    # An axis has no direction of its own; without this, colours would change with the machine.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    places = np.full((len(codebook), 3), 0.5)
    for channel, found in enumerate((centred @ axes).T):
        places[:, channel] = _spread(found / max(np.abs(centred).max(), 1e-12))
    luma = 30 + 210 * places[:, 0]
    blue, red = 110 * (places[:, 1:] - 0.5).T
    return _rgb(luma, blue, red)


def number_colours(count: int) -> Pixels:
    """(K, 3) uint8: a colour for each number, neighbours far apart."""
    numbers = np.arange(count)
    hue = 2 * np.pi * (numbers * STEPS[0] % 1).astype(np.float64)
    shade = (numbers * STEPS[1] % 1).astype(np.float64)
    return _rgb(60 + 130 * shade, 70 * np.cos(hue), 70 * np.sin(hue))


def _rgb(
    luma: npt.NDArray[np.float64], blue: npt.NDArray[np.float64], red: npt.NDArray[np.float64]
) -> Pixels:
    """Brightness and two differences of colour, (K,) each -> (K, 3)."""
    rgb = [luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue]
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8).T


def _spread(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(K,) -> (K,) ranks in [0, 1]; what is equal but for rounding has one rank."""
    _, ranks = np.unique(values.round(6), return_inverse=True)
    middle: npt.NDArray[np.float64] = (ranks + 0.5) / (ranks.max() + 1)
    return middle


def code_map(ids: npt.NDArray[np.integer], colours: Pixels, size: tuple[int, int]) -> Pixels:
    """Ids (h, w) -> (H, W, 3): a square of each code's colour."""
    small = Image.fromarray(colours[ids])
    return np.asarray(small.resize((size[1], size[0]), Image.Resampling.NEAREST))


def plane(ids: Any, depth: int = 0, scales: Sequence[tuple[int, int]] = ()) -> Any:
    """Codes of one picture or clip, an array or tensor -> (h, w) or (t, h, w) to look at.

    Of several codes a token the first; of several scales the finest; of another sequence, whose
    codes have no place in the picture, all in a row.
    """
    first = ids[..., 0] if depth else ids
    if scales:
        height, width = scales[-1]
        return first[-height * width :].reshape(height, width)
    return first[None] if first.ndim == 1 else first


def map_of(codes: Codes) -> npt.NDArray[np.integer]:
    """The codes of one picture (h, w) or clip (t, h, w), to look at: see `plane`."""
    found: npt.NDArray[np.integer] = plane(codes.ids[0], codes.depth, codes.scales)
    return found


def sheet(original: Pixels, back: Pixels, ids: npt.NDArray[np.integer], colours: Pixels) -> Pixels:
    """(H, W, 3), (H, W, 3), ids (h, w) -> original, reconstruction and code map in a row."""
    parts = original, back, code_map(ids, colours, (original.shape[0], original.shape[1]))
    return _join(parts, axis=1)


def gallery(columns: Sequence[Sequence[Pixels]]) -> Pixels:
    """Columns of pictures (H, W, 3), all of one size, on white with a margin around."""
    joined = _join([_join(column, axis=0) for column in columns], axis=1)
    margin = ((2 * GAP, 2 * GAP), (2 * GAP, 2 * GAP), (0, 0))
    return np.pad(joined, margin, constant_values=255)


def _join(pictures: Sequence[Pixels], axis: int) -> Pixels:
    """Pictures one after another, with white between them."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=axis)

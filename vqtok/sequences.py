"""What a tokenizer takes and gives: lists of pictures, padded rows of ids, grids, outputs."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from vqtok.errors import CodesError, InputError
from vqtok.extras import require

__all__ = [
    "OutputType",
    "as_list",
    "as_output",
    "as_rows",
    "check_output_type",
    "check_padding",
    "named",
    "pad",
    "padded_length",
    "parse_grid",
    "source_name",
    "table",
]

OutputType = Literal["pil", "np", "pt"]
SINGLE = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, Mapping)


def as_list(images: Any) -> list[Any]:
    """One picture, a batch in one array, or any collection of pictures."""
    if isinstance(images, SINGLE) or hasattr(images, "read"):
        return [images]
    if hasattr(images, "ndim"):
        # A column of a table, of paths or of pictures, has one axis too, but not of numbers.
        objects = images.ndim == 1 and getattr(images.dtype, "kind", "") in ("O", "U", "T")
        return list(images) if objects or images.ndim == 4 else [images]
    if isinstance(images, Iterable):
        return list(images)
    return [images]


def named(images: Any) -> Iterator[tuple[Any, str | None]]:
    """Each picture with what messages call it; what an iterator yields is taken as it comes."""
    if isinstance(images, Iterator) and not hasattr(images, "read"):
        return ((source, source_name(source, index)) for index, source in enumerate(images))
    sources = as_list(images)
    if len(sources) == 1:
        return iter([(sources[0], None)])
    return ((source, source_name(source, index)) for index, source in enumerate(sources))


def source_name(source: Any, index: int, kind: str = "picture") -> str | None:
    """What messages call one of several pictures or clips that has no path."""
    return None if isinstance(source, (str, os.PathLike)) else f"{kind} {index}"


def as_rows(sequences: Any) -> list[Any]:
    """Several pictures' ids -> a list of what holds one picture's."""
    if isinstance(sequences, Mapping):
        raise CodesError("the ids of several pictures are a list or a tensor; pass its `input_ids`")
    if not isinstance(sequences, Iterable):
        raise CodesError(
            f"the ids of several pictures are a list or a tensor; got {type(sequences).__name__}"
        )
    rows = list(sequences)
    if rows and hasattr(rows[0], "__index__") and getattr(rows[0], "ndim", 0) == 0:
        raise CodesError("these are the ids of one picture, which `decode` takes, not of several")
    return rows


def check_output_type(output_type: str) -> None:
    """Raises where there is no such kind of result, here or anywhere."""
    if output_type not in ("pil", "np", "pt"):
        raise InputError(f"output_type is 'pil', 'np' or 'pt'; got {output_type!r}")
    if output_type == "pt":
        require("torch", "torch", "output_type='pt' makes tensors")


def check_padding(
    padding: bool | str, side: str, max_length: int | None, return_tensors: str | None
) -> None:
    """Raises where options cannot be, before any picture is read."""
    if padding not in (True, False, "longest", "max_length"):
        raise InputError(f"padding is True, False, 'longest' or 'max_length'; got {padding!r}")
    if side not in ("left", "right"):
        raise InputError(f"padding_side is 'left' or 'right'; got {side!r}")
    if max_length is None:
        if padding == "max_length":
            raise InputError("padding='max_length' needs max_length")
    elif isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise InputError(f"max_length is a whole number, at least 1; got {max_length!r}")
    if return_tensors not in (None, "pt", "np"):
        raise InputError(f"return_tensors is 'pt', 'np' or None; got {return_tensors!r}")
    if return_tensors == "pt":
        require("torch", "torch", "return_tensors='pt' makes tensors")


def padded_length(
    lengths: list[int], padding: bool | str, max_length: int | None, return_tensors: str | None
) -> int | None:
    """How long each sequence becomes; None where they keep their lengths."""
    longest = max(lengths, default=0)
    if max_length is not None and longest > max_length:
        raise InputError(
            f"a picture takes {longest} ids, more than max_length={max_length}; a cut sequence is "
            "no picture, so take a smaller size"
        )
    if padding == "max_length":
        return max_length
    if padding is False:
        if return_tensors and len(set(lengths)) > 1:
            raise InputError(
                f"sequences of {min(lengths)} to {longest} ids make no tensor without padding"
            )
        return None
    return longest


def pad(
    row: npt.NDArray[np.int64], length: int | None, value: int, side: str
) -> npt.NDArray[np.int64]:
    """A row (L,), filled with `value` on one side."""
    missing = 0 if length is None else length - len(row)
    around = (missing, 0) if side == "left" else (0, missing)
    return np.pad(row, around, constant_values=value)


def table(rows: list[npt.NDArray[np.int64]], width: int) -> npt.NDArray[np.int64]:
    """N rows of `width` -> (N, width), also where there is none."""
    return np.array(rows, np.int64).reshape(len(rows), width)


def parse_grid(shape: Any, axes: int = 2) -> tuple[int, ...]:
    """The grid of a picture (h, w), a clip (t, h, w) or a sequence (L,), by its number of `axes`.

    Rows of image_grid_thw, (1, h, w) and (1, 1, L), are taken too, and a picture's for a clip.
    """
    try:
        sides = [operator.index(side) for side in shape]
    except TypeError:
        sides = []
    while len(sides) > axes and sides[0] == 1:
        sides = sides[1:]
    if axes == 3 and len(sides) == 2:
        sides = [1, *sides]
    if len(sides) != axes or min(sides) < 1:
        forms = {1: "a sequence's grid is (L,)", 2: "a picture's grid is (h, w), both"}
        form = forms.get(axes, "a clip's grid is (t, h, w), all")
        raise CodesError(f"{form} at least 1; got {shape!r}")
    return tuple(sides)


def as_output(pixels: npt.NDArray[np.uint8], output_type: OutputType) -> Any:
    """uint8 (H, W, 3) -> a PIL image, the same array, or a tensor (3, H, W)."""
    if output_type == "pil":
        return Image.fromarray(pixels)
    if output_type == "np":
        return pixels
    import torch

    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

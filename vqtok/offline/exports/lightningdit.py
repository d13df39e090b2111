"""LightningDiT's latents: latents, their mirror images and labels as safetensors, and statistics.

`ImgLatentDataset` picks one of the tensors latents and latents_flip, (N, D, h, w), at random for
each picture, and subtracts the mean and divides by the standard deviation of latents_stats.pt,
(1, D, 1, 1) each.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, InputError
from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import ROWS, grouped, read_rows, row_line
from vqtok.offline.exports.survey import (
    Classes,
    by_sample,
    check_pictures,
    classes_of,
    latents_of,
    one_shape,
    survey,
    views_of,
)
from vqtok.offline.moments import Moments
from vqtok.offline.rows import Row

__all__ = ["lightningdit"]

DTYPES = ("float32", "float16")
PICTURES = 2048  # a file; two float32 tensors of 32 x 16 x 16 are 134 MB
Tensors = dict[str, npt.NDArray[Any]]


@export("lightningdit", what="latents")
def lightningdit(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    classes: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
) -> Told:
    """latents_rank00_shard<n>.safetensors and latents_stats.pt, for data.data_path.

    classes  the classes.json of another export, whose numbers these labels are to have
    dtype    "float32", as LightningDiT stores them, or "float16", as they are here
    """
    from safetensors.numpy import save_file

    if dtype not in DTYPES:
        raise ConfigError(
            f"the lightningdit export stores latents as {' or '.join(DTYPES)}; got dtype={dtype!r}"
        )
    check_pictures(tokens, "lightningdit", "npy or webdataset")
    found = survey(tokens)
    channels = one_shape(found.latents, "lightningdit", "webdataset")[0]
    numbers = classes_of(found, "lightningdit", classes, "npy or webdataset")
    views = _pair(views_of(tokens, found))
    moments: list[Moments] = []
    images = files = 0
    with (folder / ROWS).open("wb") as lines:
        samples = by_sample(read_rows(tokens, advance), views)
        for pairs in grouped(_pairs(samples), PICTURES):
            lines.write(b"".join(row_line(row) for row, _ in pairs))
            moments.append(Moments.of([latents_of(row) for row, _ in pairs], channels))
            file = folder / f"latents_rank00_shard{files:03d}.safetensors"
            save_file(_tensors(pairs, numbers, dtype), file)
            images += len(pairs)
            files += 1
    _write_stats(folder, reduce(Moments.merged, moments))
    numbers.write(folder)
    return {"images": images, "files": files, "dtype": dtype}


def _pair(views: tuple[str, ...]) -> tuple[str, ...]:
    if len(views) != 2:
        raise InputError(_needs(f"has {', '.join(views)}"))
    return views


def _needs(what: str) -> str:
    return (
        "LightningDiT trains on each picture and its mirror image, and this data set "
        f"{what}; tokenize with --views center,hflip"
    )


def _pairs(samples: Iterator[list[Row]]) -> Iterator[tuple[Row, Row]]:
    """Pictures with their mirror images."""
    for views in samples:
        plain, mirrored = sorted(views, key=lambda row: row.flip)
        if plain.flip or not mirrored.flip:
            raise InputError(_needs(f"has two views of {plain.key!r} that are no such pair"))
        yield plain, mirrored


def _tensors(pairs: list[tuple[Row, Row]], numbers: Classes, dtype: str) -> Tensors:
    return {
        "latents": np.stack([latents_of(row) for row, _ in pairs]).astype(dtype),
        "latents_flip": np.stack([latents_of(row) for _, row in pairs]).astype(dtype),
        "labels": np.array([numbers[row.label] for row, _ in pairs], np.int64),
    }


def _write_stats(folder: Path, moments: Moments) -> None:
    """latents_stats.pt, of the pictures that are not mirrored, as the reader takes them."""
    import torch

    def by_channel(values: npt.NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).reshape(1, -1, 1, 1)

    spread = np.sqrt(np.array(moments.m2) / max(1, moments.count - 1))
    out = io.BytesIO()
    torch.save({"mean": by_channel(np.array(moments.mean)), "std": by_channel(spread)}, out)
    (folder / "latents_stats.pt").write_bytes(out.getvalue())

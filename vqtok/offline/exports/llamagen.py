"""LlamaGen's class-conditional training set: two .npy files for each picture.

`dataset/imagenet.py` takes `imagenet<size>_codes/<i>.npy`, (1, views, L) int64, and
`imagenet<size>_labels/<i>.npy`, (1,) int64. It picks one of the views where
its path has "flip" in it, and joins them otherwise.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from vqtok.errors import InputError
from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import ROWS, read_rows, row_line
from vqtok.offline.exports.survey import (
    Survey,
    by_sample,
    check_flat,
    check_pictures,
    classes_of,
    codes_of,
    one_shape,
    survey,
    views_of,
)

__all__ = ["llamagen"]

# The reader counts to this, however many files there are.
READ = 1_281_167
log = logging.getLogger(__name__)


@export("llamagen", what="codes")
def llamagen(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    classes: str | os.PathLike[str] | None = None,
) -> Told:
    """imagenet<size>_codes and imagenet<size>_labels, for --code-path.

    classes  the classes.json of another export, whose numbers these labels are to have
    """
    found = survey(tokens)
    check_pictures(tokens, "llamagen", "1xgpt, megatron, mds or webdataset")
    check_flat(tokens, found, "llamagen")
    size = _size(found)
    numbers = classes_of(found, "llamagen", classes, "megatron, mds, litdata or webdataset")
    views = views_of(tokens, found)
    _check_name(folder, views)
    codes, labels = folder / f"imagenet{size}_codes", folder / f"imagenet{size}_labels"
    codes.mkdir()
    labels.mkdir()
    images = 0
    with (folder / ROWS).open("wb") as lines:
        for rows in by_sample(read_rows(tokens, advance), views):
            stack = np.stack([codes_of(row).reshape(-1) for row in rows])
            np.save(codes / f"{images}.npy", stack[None].astype(np.int64))
            np.save(labels / f"{images}.npy", np.array([numbers[rows[0].label]], np.int64))
            lines.write(row_line(rows[0]))
            images += 1
    numbers.write(folder)
    _tell(images)
    return {"images": images, "views": list(views), "image_size": size}


def _size(found: Survey) -> int:
    """The side of the pictures, in pixels: LlamaGen knows squares alone."""
    shape = one_shape(found.codes, "llamagen", "megatron, mds or webdataset")
    size = next(iter(found.sizes))
    if len(shape) != 2 or shape[0] != shape[1] or size[0] != size[1] or len(found.sizes) > 1:
        raise InputError(
            f"the llamagen export is for square pictures of one size and square grids; this data "
            f"set has pictures of {'x'.join(map(str, size))} and grids of "
            f"{'x'.join(map(str, shape))}"
        )
    return size[0]


def _check_name(folder: Path, views: tuple[str, ...]) -> None:
    # A path that holds "flip" above the folder may be given to the reader without that part.
    if len(views) > 1 and "flip" not in folder.name:
        raise InputError(
            f"LlamaGen picks one of the {len(views)} views of a picture only where its path has "
            "'flip' in it, and joins them otherwise; name the output so, such as codes_flip"
        )


def _tell(images: int) -> None:
    if images != READ:
        log.warning(
            "LlamaGen's CustomDataset counts to %d and there are %d pictures: give it "
            "range(%d) in dataset/imagenet.py",
            READ,
            images,
            images,
        )

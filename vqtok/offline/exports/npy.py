"""Latents as one array that `np.load(..., mmap_mode="r")` maps into memory, and labels as another.

latents.npy is (rows, D, *grid) float16, labels.npy (rows,) int64; rows.jsonl has a line for each.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import numpy as np

from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import told_rows
from vqtok.offline.exports.survey import classes_if_any, latents_of, one_shape, survey

__all__ = ["npy"]


@export("npy", what="latents")
def npy(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    classes: str | os.PathLike[str] | None = None,
) -> Told:
    """latents.npy, and labels.npy where the set has labels.

    classes  the classes.json of another export, whose numbers these labels are to have
    """
    found = survey(tokens)
    shape = (len(tokens), *one_shape(found.latents, "npy", "webdataset"))
    numbers = classes_if_any(found, "npy", classes)
    labels = array("q")
    with (folder / "latents.npy").open("wb") as out:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for row in told_rows(tokens, folder, advance):
            out.write(latents_of(row).astype("<f2").tobytes())
            if numbers is not None:
                labels.append(numbers[row.label])
    if numbers is not None:
        np.save(folder / "labels.npy", np.array(labels, "<i8"))
        numbers.write(folder)
    return {"shape": list(shape)}

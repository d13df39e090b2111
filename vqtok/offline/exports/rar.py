"""RAR's and MaskGIT's training set in 1d-tokenizer: pretokenized.jsonl, a line for each row.

`PretoeknizedDataSetJSONL` reads {"class_id": int, "tokens": [int, ...]}; the views of a picture are
lines of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import line, told_rows
from vqtok.offline.exports.survey import (
    check_flat,
    check_pictures,
    classes_of,
    codes_of,
    one_shape,
    survey,
)

__all__ = ["rar"]

FILE = "pretokenized.jsonl"


@export("rar", what="codes")
def rar(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    classes: str | os.PathLike[str] | None = None,
) -> Told:
    """pretokenized.jsonl, for dataset.params.pretokenization.

    classes  the classes.json of another export, whose numbers these labels are to have
    """
    found = survey(tokens)
    check_pictures(tokens, "rar", "1xgpt, megatron, mds or webdataset")
    check_flat(tokens, found, "rar")
    shape = one_shape(found.codes, "rar", "megatron, mds or webdataset")
    numbers = classes_of(found, "rar", classes, "megatron, mds, litdata or webdataset")
    with (folder / FILE).open("wb") as out:
        for row in told_rows(tokens, folder, advance):
            codes = codes_of(row).reshape(-1).tolist()
            out.write(line({"class_id": numbers[row.label], "tokens": codes}))
    numbers.write(folder)
    return {"length": int(np.prod(shape))}

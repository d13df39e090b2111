"""WebDataset tars of rows, as the `webdataset` library decodes them without being told anything.

As the format of data sets of the same name, but with class numbers for labels of text, and of rows
of any format.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from vqtok.errors import ConfigError
from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import grouped, read_rows
from vqtok.offline.exports.survey import Classes, Survey, classes_if_any, survey
from vqtok.offline.formats import FORMATS
from vqtok.offline.rows import Row, Rows

__all__ = ["webdataset"]

TAR = 256 << 20


@export("webdataset", what="both")
def webdataset(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    classes: str | os.PathLike[str] | None = None,
    tar_rows: int | None = None,
) -> Told:
    """00000.tar and on: codes.npy, latents.npy, json, and cls and txt where there are some.

    classes   the classes.json of another export, whose numbers these labels are to have
    tar_rows  rows a tar; by default about 256 MB
    """
    if tar_rows is not None and tar_rows < 1:
        raise ConfigError(f"tar_rows is a whole number, at least 1; got {tar_rows}")
    found = survey(tokens)
    numbers = classes_if_any(found, "webdataset", classes)
    plan = tokens.plan.model_copy(update={"label": "int" if numbers else "none"})
    tars = 0
    most = tar_rows or _rows_of_a_tar(found)
    changed = _changed(tokens, advance, numbers, found.captioned is not None)
    for rows in grouped(changed, most):
        for name, data in FORMATS["webdataset"].write(Rows.of(rows), plan, f"{tars:05d}").items():
            (folder / name).write_bytes(data)
        tars += 1
    if numbers is not None:
        numbers.write(folder)
    return {"tars": tars}


def _rows_of_a_tar(found: Survey) -> int:
    """As many as make a tar of about `TAR` bytes, by the largest arrays."""
    codes = max((4 * math.prod(shape) for shape in found.codes), default=0)
    latents = max((2 * math.prod(shape) for shape in found.latents), default=0)
    return max(1, TAR // (codes + latents + 4096))


def _changed(
    tokens: Tokens, advance: Advance, numbers: Classes | None, captioned: bool
) -> Iterator[Row]:
    """The rows as they are written."""
    for row in read_rows(tokens, advance):
        label = None if numbers is None else numbers[row.label]
        # `datasets` expects the same files in all tars.
        yield row._replace(label=label, text=(row.text or "") if captioned else None)

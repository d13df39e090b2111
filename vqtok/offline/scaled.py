"""Rows with latents as diffusion models take them: float32, centred and scaled.

Stored latents need no tokenizer; of rows that hold codes alone, each code is looked up.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError, MismatchError
from vqtok.offline.records import unpack_histogram
from vqtok.offline.rows import Row
from vqtok.types import Codes, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vqtok.offline.plan import Plan
    from vqtok.offline.shelf import Shelf
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["LookedUp", "codes_of", "scaled"]

# Rows that mean and spread are taken from, where no counts of codes tell them.
MEASURED = 1024


def codes_of(row: Row, plan: Plan) -> Codes:
    """A row's codes as a batch of one."""
    if row.codes is None:
        raise InputError("this data set holds latents and no codes")
    return Codes(
        ids=row.codes[None],
        sizes=np.array([row.size], np.int32),
        codebook_size=plan.tokenizer.codebook_size,
        codebook=plan.tokenizer.fingerprint["codebook"],
        depth=plan.tokenizer.depth,
        scales=row.scales,
    )


def scaled(row: Row, shift: float, scaling: float | None) -> Row:
    """(latents - shift) * scaling, float32; values that are all equal are not scaled."""
    if row.latents is None:
        raise InputError(f"the row {row.key!r} holds no latents")
    centred = row.latents.astype(np.float32) - np.float32(shift)
    return row._replace(latents=centred * np.float32(1.0 if scaling is None else scaling))


class LookedUp:
    """Gives rows of codes the latents that their codes stand for.

    Codes of a set with one code a token are looked up in a table. Others need the tokenizer, which
    goes into worker processes as a whole: one on the CPU, where these are forked.
    """

    shift: float = 0.0
    scaling: float | None = None

    def __init__(self, plan: Plan, tokenizer: VisualTokenizer) -> None:
        planned = Fingerprint.from_dict(plan.tokenizer.fingerprint)
        if tokenizer.fingerprint.codebook != planned.codebook:
            raise MismatchError(
                f"this data set was made with the codebook {planned.codebook[:16]}, and the "
                f"tokenizer has {tokenizer.fingerprint.codebook[:16]}: its latents are others"
            )
        self._plan = plan
        self._by: npt.NDArray[np.float32] | VisualTokenizer = tokenizer
        if not plan.tokenizer.depth and not tokenizer.is_multiscale:
            # The table alone goes to other processes, and they need no torch.
            self._by = tokenizer.codebook.cpu().numpy()

    def __call__(self, row: Row) -> Row:
        """With latents (D, *grid) float32."""
        codes = codes_of(row, self._plan)
        if isinstance(self._by, np.ndarray):
            return row._replace(latents=np.moveaxis(self._by[codes.ids[0]], -1, 0).copy())
        return row._replace(latents=self._by.latents(codes)[0].cpu().numpy())

    def measure(self, shelf: Shelf, histograms: Sequence[str | None]) -> None:
        """Sets shift and scaling, by which latents of all rows have mean 0 and spread 1.

        They follow from how often each code comes. Where that is not all, or not known, they are
        those of 1,024 rows, evenly over the whole set, whatever of it is chosen.
        """
        if isinstance(self._by, np.ndarray) and histograms and None not in histograms:
            counts = sum(unpack_histogram(each) for each in histograms if each is not None)
            self.shift, self.scaling = _spread(self._by, np.asarray(counts))
            return
        starts = [0, *accumulate(shard.rows for shard in shelf.shards)]
        step = -(-starts[-1] // MEASURED) or 1
        found = []
        for place in range(0, starts[-1], step):
            shard = bisect_right(starts, place) - 1
            row = self(shelf.row(shard, place - starts[shard]))
            found.append(np.ravel(np.asarray(row.latents)))
        values = np.concatenate(found) if found else np.zeros(0)
        self.shift, self.scaling = _spread(values[:, None], np.ones(len(values), np.int64))


def _spread(table: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> tuple[float, float | None]:
    """(mean, 1 / standard deviation) of the values of rows that come so often."""
    there = counts > 0
    often, values = counts[there].astype(np.float64), table[there].astype(np.float64)
    total = float(counts.sum()) * table.shape[1]
    if not total:
        return 0.0, None
    mean = math.fsum(often * values.sum(1)) / total
    variance = math.fsum(often * ((values - mean) ** 2).sum(1)) / total
    return mean, 1 / math.sqrt(variance) if variance > 0 else None

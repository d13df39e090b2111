"""The rows of a shard as they come, in whatever order, until all are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.offline.decode import About, Shown
from vqtok.offline.latents import Encoded
from vqtok.offline.moments import Moments
from vqtok.offline.plan import Plan
from vqtok.offline.records import LARGEST_HISTOGRAM, Failure, pack_histogram
from vqtok.offline.rows import Rows, numbers_of

__all__ = ["CodeFigures", "Gathered", "code_figures", "moments_of"]

Array = npt.NDArray[Any]
# Values that are counted, or float16 numbers that are summed, at a time.
CHUNK = 1 << 22


class _Column:
    """Arrays by row: one array while they are of one shape.

    alone  whether each has a shape of its own, as a rule: then all are kept by themselves
    """

    def __init__(self, rows: int, alone: bool) -> None:
        self._rows, self._alone = rows, alone
        self._whole: Array | None = None
        self._others: dict[int, Array] = {}

    def put(self, rows: Sequence[int], values: Array) -> None:
        if self._whole is None and not self._alone:
            self._whole = np.zeros((self._rows, *values.shape[1:]), values.dtype)
        if self._whole is not None and self._whole.shape[1:] == values.shape[1:]:
            self._whole[rows] = values
        else:
            self._others.update(zip(rows, values, strict=True))

    def take(self, rows: Sequence[int]) -> Array | list[Array] | None:
        """Those of some rows; as one array where they are of one shape."""
        whole, others = self._whole, self._others
        if not rows or (whole is None and not others):
            return None
        if whole is not None and not others.keys() & set(rows):
            return whole if len(rows) == len(whole) else whole[rows]
        found = [others[row] if whole is None or row in others else whole[row] for row in rows]
        same = all(each.shape == found[0].shape for each in found)
        return np.stack(found) if same else found


class _Grid(NamedTuple):
    grid: tuple[int, ...]
    scales: tuple[tuple[int, int], ...]


class Gathered:
    """One shard's samples and their rows; a sample's rows are all there, or none.

    samples  those of the shard, by number
    """

    def __init__(self, plan: Plan, samples: range) -> None:
        self._plan = plan
        self.samples = samples
        self._views = len(plan.view_names)
        self._there: dict[int, tuple[About, list[Shown]]] = {}
        self._failed: dict[int, Failure] = {}
        self._grids: dict[int, _Grid] = {}
        rows = len(samples) * self._views
        alone = plan.batch == 1
        self._codes, self._latents = _Column(rows, alone), _Column(rows, alone)

    def rows_of(self, index: int) -> range:
        """The numbers, in the shard, of the rows of a sample."""
        start = (index - self.samples.start) * self._views
        return range(start, start + self._views)

    def add(self, about: About, shown: list[Shown]) -> None:
        """A sample whose rows are to come."""
        self._there[about.number] = about, shown

    def fail(self, failure: Failure) -> None:
        """A sample without rows. The first reason counts, in the order of the shard."""
        self._failed.setdefault(failure.index, failure)

    def put(self, done: Encoded) -> None:
        """Rows that are through the model."""
        if done.rows:
            grid = _Grid(done.grid, done.scales)
            self._grids.update(dict.fromkeys(done.rows, grid))
            if done.ids is not None:
                self._codes.put(done.rows, done.ids)
            if done.latents is not None:
                self._latents.put(done.rows, done.latents)
        for lost in sorted(done.lost):
            about, _ = self._there[self.samples.start + lost.row // self._views]
            view = self._plan.view_names[lost.row % self._views]
            where = f"{view}: " if self._views > 1 else ""
            self.fail(
                Failure(
                    key=about.key,
                    index=about.number,
                    rows=self._views,
                    stage=lost.stage,
                    reason=where + lost.reason,
                )
            )

    @property
    def failures(self) -> list[Failure]:
        """In the order of samples."""
        return [self._failed[index] for index in sorted(self._failed)]

    def rows(self) -> Rows:
        """All rows in order, of samples that did not fail."""
        kept = [index for index in sorted(self._there) if index not in self._failed]
        numbers = [row for index in kept for row in self.rows_of(index)]
        abouts = [self._there[index][0] for index in kept for _ in range(self._views)]
        shown = [one for index in kept for one in self._there[index][1]]
        grids = [self._grids[number] for number in numbers]
        return Rows(
            keys=[about.key for about in abouts],
            views=[*self._plan.view_names] * len(kept),
            boxes=numbers_of([one.box for one in shown], 4),
            flips=np.array([one.flip for one in shown], np.bool_),
            sizes=numbers_of([one.size for one in shown], 2),
            grids=numbers_of([each.grid for each in grids], 2),
            scales=[each.scales for each in grids],
            codes=self._codes.take(numbers),
            latents=self._latents.take(numbers),
            labels=[about.label for about in abouts],
            texts=[about.text for about in abouts],
            columns=[about.columns for about in abouts],
        )


class CodeFigures(NamedTuple):
    """What a record says of all codes of a shard."""

    sha256: str
    histogram: str | None


def code_figures(codes: Array | list[Array] | None, codebook_size: int) -> CodeFigures:
    """Of rows' codes in order; without any, those of no codes."""
    digest = hashlib.sha256()
    counted = codebook_size <= LARGEST_HISTOGRAM
    counts = np.zeros(codebook_size if counted else 0, np.int64)
    for part in _parts(codes):
        digest.update(np.ascontiguousarray(part).data)
        if counted:
            counts += np.bincount(part.reshape(-1), minlength=codebook_size)
    return CodeFigures(digest.hexdigest(), pack_histogram(counts) if counted else None)


def moments_of(latents: Array | list[Array] | None, channels: int) -> Moments:
    """Of rows' latents (D, *grid) as they are stored."""
    parts = (part.reshape(*part.shape[:2], -1).swapaxes(0, 1) for part in _parts(latents))
    return Moments.of(parts, channels)


def _parts(arrays: Array | list[Array] | None) -> Iterator[Array]:
    """Rows in order, (n, ...) of one shape and of bounded size."""
    if arrays is None or not len(arrays):
        return
    if isinstance(arrays, list):
        yield from (each[None] for each in arrays)
        return
    step = max(1, CHUNK // max(1, arrays[0].size))
    for start in range(0, len(arrays), step):
        yield arrays[start : start + step]

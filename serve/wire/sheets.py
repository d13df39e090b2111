"""What every medium carries, whichever it is: rows of arrays, and what is said once of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.serve.wire import headers as names
from vqtok.serve.wire.errors import Failure, WireError
from vqtok.types import Fingerprint

__all__ = ["PARTS", "SCHEMA", "Array", "Expect", "Head", "Row", "Sheet", "described", "stacked"]

SCHEMA = "vqtok-wire/1"
PARTS = ("codes", "latents", "pixels")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Head:
    """What is said once.

    fingerprint    of the tokenizer that answers
    codebook       sha256 of the codebook that codes were made with; "" where it is not known
    codebook_size  K, 0 where it is not known
    depth          codes a token has, 0 where ids have no such axis
    """

    fingerprint: Fingerprint | None = None
    codebook: str = ""
    codebook_size: int = 0
    depth: int = 0

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Those that say it."""
        found: dict[str, str] = {}
        if self.fingerprint is not None:
            found[names.FINGERPRINT] = names.print_text(self.fingerprint)
        elif self.codebook:
            found[names.CODEBOOK] = self.codebook
        if self.codebook_size:
            found[names.CODEBOOK_SIZE] = str(self.codebook_size)
        return found


class Row(NamedTuple):
    """One picture or clip.

    parts   "codes" unsigned (*grid[, Q]), "latents" float32 (D, *grid), "pixels" uint8 (h, w, 3) or
            (t, h, w, 3); the ones there are
    size    height and width in pixels, frames before them of a clip; () where it is not known
    scales  height and width of each grid, coarse to fine, where codes of several follow each other
    """

    parts: Mapping[str, Array]
    size: tuple[int, ...] = ()
    scales: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Sheet:
    """An answer, or what a request brought."""

    rows: Sequence[Row | Failure]
    head: Head = field(default_factory=Head)

    @property
    def good(self) -> list[Row]:
        """The rows that came to something."""
        return [row for row in self.rows if isinstance(row, Row)]

    @property
    def status(self) -> list[int]:
        """That of each."""
        return [row.status if isinstance(row, Failure) else 200 for row in self.rows]


class Expect(NamedTuple):
    """What arrays in a body can be.

    axes    part -> how many axes one picture's array has
    shape   part -> what messages call that
    most    pictures that are taken; None: any number
    always  whether an array always has the axis of several pictures, as in answers; else it has
            where its axes are one more than the most that one picture has
    trusted whether failures that the body tells of are a server's; those of a request may not be
    dtype   of raw numbers where no header tells; "": one must
    """

    axes: Mapping[str, tuple[int, ...]]
    shape: Mapping[str, str]
    most: int | None = None
    always: bool = False
    trusted: bool = True
    dtype: str = ""

    def part_of(self, dtype: np.dtype[Any]) -> str:
        """Which part an array is whose name is not told: whole numbers are codes."""
        if len(self.axes) == 1:
            return next(iter(self.axes))
        return "codes" if dtype.kind in "biu" or "latents" not in self.axes else "latents"

    def several(self, part: str, axes: int) -> bool:
        """Whether an array of so many axes is several pictures and not one."""
        known = self.axes[part]
        more = [one + 1 for one in known] if self.always else [max(known) + 1]
        if axes in more:
            return True
        if self.always or axes not in known:
            raise WireError(
                "wrong_shape",
                f"{part} of one picture have the shape {self.shape[part]}, those of several one "
                f"axis before these; got an array of {axes} axes",
            )
        return False

    def cut(self, part: str, array: Array) -> list[Array]:
        """One array a picture."""
        if not self.several(part, array.ndim):
            return [array]
        self.check_count(len(array))
        return list(array)

    def failed(self, failure: Failure) -> Failure:
        """A failure that the body tells of: in a request it is no more than nothing."""
        return failure if self.trusted else failure.posted

    def check_count(self, count: int) -> None:
        """Raises where there are too many, before anything is made of each."""
        if self.most is not None and count > self.most:
            raise WireError(
                "too_many_images",
                f"the body holds {count} pictures; at most {self.most} are taken at once",
            )


def stacked(sheet: Sheet, main: str, media: str) -> Array:
    """The part `main` of every good row as one array (N, ...); not_acceptable where none can be."""
    arrays = [row.parts[main] for row in sheet.good]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise WireError(
            "not_acceptable",
            f"{media} is one array, and these {main} have {len(shapes) or 'no'} shapes; ask for "
            "application/safetensors or application/json",
        )
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def described(sheet: Sheet, main: str) -> dict[str, str]:
    """The headers that tell of a sheet in any medium; shape and dtype where all rows share it."""
    rows = sheet.rows
    if len(rows) == 1 and isinstance(row := rows[0], Row):
        array = row.parts[main]
        return {**sheet.head.headers, **_of_one(array.shape, array.dtype, row.size, row.scales)}
    good = sheet.good
    found = {**sheet.head.headers, names.STATUS_OF_EACH: ",".join(map(str, sheet.status))}
    kinds = {(row.parts[main].shape, row.parts[main].dtype) for row in good}
    if len(kinds) == 1:
        ((shape, dtype),) = kinds
        found[names.DTYPE] = dtype.name
        found[names.SHAPE] = ",".join(map(str, (len(good), *shape)))
    _describe_sizes(good, found)
    return found


@lru_cache(512)
def _of_one(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    size: tuple[int, ...],
    scales: tuple[tuple[int, int], ...],
) -> Mapping[str, str]:
    """What tells of one row: a server that is asked for one picture at a time has but few kinds."""
    found = {names.DTYPE: dtype.name, names.SHAPE: ",".join(map(str, (1, *shape)))}
    if size:
        found[names.SIZES] = names.sizes_text([size])
    if scales:
        found[names.SCALES] = names.sizes_text(scales)
    return found


def _describe_sizes(good: Sequence[Row], found: dict[str, str]) -> None:
    sizes = [row.size for row in good]
    if sizes and all(sizes):
        same = all(size == sizes[0] for size in sizes)
        found[names.SIZES] = names.sizes_text(sizes[:1] if same else sizes)
    scales = {row.scales for row in good}
    if len(scales) == 1 and (one := scales.pop()):
        found[names.SCALES] = names.sizes_text(one)

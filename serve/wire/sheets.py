"""What every medium carries, whichever it is: rows of arrays, and what is said once of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """

    axes: Mapping[str, tuple[int, ...]]
    shape: Mapping[str, str]
    most: int | None = None
    always: bool = False
    trusted: bool = True

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
    head, good = sheet.head, sheet.good
    found: dict[str, str] = {}
    if head.fingerprint is not None:
        found[names.FINGERPRINT] = names.print_text(head.fingerprint)
    elif head.codebook:
        found[names.CODEBOOK] = head.codebook
    if head.codebook_size:
        found[names.CODEBOOK_SIZE] = str(head.codebook_size)
    if len(sheet.rows) != 1 or len(good) != 1:
        found[names.STATUS_OF_EACH] = ",".join(map(str, sheet.status))
    kinds = {(row.parts[main].shape, row.parts[main].dtype.name) for row in good}
    if len(kinds) == 1:
        ((shape, found[names.DTYPE]),) = kinds
        found[names.SHAPE] = ",".join(map(str, (len(good), *shape)))
    _describe_sizes(good, found)
    return found


def _describe_sizes(good: Sequence[Row], found: dict[str, str]) -> None:
    sizes = [row.size for row in good]
    if sizes and all(sizes):
        same = all(size == sizes[0] for size in sizes)
        found[names.SIZES] = names.sizes_text(sizes[:1] if same else sizes)
    scales = {row.scales for row in good}
    if len(scales) == 1 and (one := scales.pop()):
        found[names.SCALES] = names.sizes_text(one)

"""What a data set holds: one row for each view of a sample. Importing this brings no torch."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError
from vqtok.offline.stored import compact

__all__ = ["Row", "Rows", "check_row", "columns_text", "numbers_of", "parse_columns"]

Array = npt.NDArray[Any]
# Objects of one member that stand for what JSON has no word for. A column that happens to hold
# such an object is wrapped in {"object": ...}, so that it comes back as it was.
MARKS = ("base64", "float", "object")


class Row(NamedTuple):
    """One view of a sample, and its codes, latents or both.

    key      the sample's name in its source
    view     the name of the view, one of the plan's `view_names`
    box      top, left, height and width of what was cut out, in the upright source picture
    flip     whether it was mirrored, left to right
    size     (h, w), or (t, h, w) of a clip: the pixels that decoding gives back
    grid     as `Codes.grid`
    scales   as `Codes.scales`; () but for codes of several scales
    codes    (*grid) or (*grid, Q), uint16 or uint32; None in a set of latents
    latents  (D, *grid of the latents) float16; None in a set of codes
    label    of the plan's kind, where the sample has one
    text     the caption, where the sample has one
    columns  whatever else the source tells of the sample
    """

    key: str
    view: str
    box: tuple[int, int, int, int]
    flip: bool
    size: tuple[int, ...]
    grid: tuple[int, ...]
    scales: tuple[tuple[int, int], ...] = ()
    codes: Array | None = None
    latents: Array | None = None
    label: int | str | None = None
    text: str | None = None
    columns: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows by column, in their order; n of them.

    keys, views, labels, texts   lists of n
    boxes                        (n, 4) int32
    flips                        (n,) bool
    sizes                        (n, 2), or (n, 3) of clips, int32
    grids                        (n, axes) int32
    scales                       a list of n
    codes, latents               (n, ...) where all rows are of one shape, else a list of n arrays;
                                 None where rows have none, and where there are no rows
    columns                      a list of n JSON texts (`columns_text`), "" for no columns
    """

    keys: list[str]
    views: list[str]
    boxes: npt.NDArray[np.int32]
    flips: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int32]
    grids: npt.NDArray[np.int32]
    scales: list[tuple[tuple[int, int], ...]]
    codes: Array | list[Array] | None
    latents: Array | list[Array] | None
    labels: list[int | str | None]
    texts: list[str | None]
    columns: list[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rows:
        """Rows one by one -> by column."""
        return cls(
            keys=[row.key for row in rows],
            views=[row.view for row in rows],
            boxes=numbers_of([row.box for row in rows], 4),
            flips=np.array([row.flip for row in rows], np.bool_),
            sizes=numbers_of([row.size for row in rows], 2),
            grids=numbers_of([row.grid for row in rows], 2),
            scales=[row.scales for row in rows],
            codes=_stacked([row.codes for row in rows], "codes"),
            latents=_stacked([row.latents for row in rows], "latents"),
            labels=[row.label for row in rows],
            texts=[row.text for row in rows],
            columns=[columns_text(row.columns) for row in rows],
        )

    @classmethod
    def concat(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, one part after the other."""
        full = [part for part in parts if len(part)]
        if len(full) < 2:
            return full[0] if full else cls.of([])
        return cls(
            keys=_chained(full, lambda part: part.keys),
            views=_chained(full, lambda part: part.views),
            boxes=np.concatenate([part.boxes for part in full]),
            flips=np.concatenate([part.flips for part in full]),
            sizes=np.concatenate([part.sizes for part in full]),
            grids=np.concatenate([part.grids for part in full]),
            scales=_chained(full, lambda part: part.scales),
            codes=_joined([part.codes for part in full], "codes"),
            latents=_joined([part.latents for part in full], "latents"),
            labels=_chained(full, lambda part: part.labels),
            texts=_chained(full, lambda part: part.texts),
            columns=_chained(full, lambda part: part.columns),
        )

    def take(self, places: Sequence[int] | npt.NDArray[np.integer]) -> Rows:
        """The rows at `places`, in their order."""
        order = np.asarray(places, np.intp)
        return Rows(
            keys=[self.keys[place] for place in order],
            views=[self.views[place] for place in order],
            boxes=self.boxes[order],
            flips=self.flips[order],
            sizes=self.sizes[order],
            grids=self.grids[order],
            scales=[self.scales[place] for place in order],
            codes=_taken(self.codes, order),
            latents=_taken(self.latents, order),
            labels=[self.labels[place] for place in order],
            texts=[self.texts[place] for place in order],
            columns=[self.columns[place] for place in order],
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Row:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} rows; asked for {index}")
        top, left, height, width = self.boxes[index].tolist()
        return Row(
            key=self.keys[index],
            view=self.views[index],
            box=(top, left, height, width),
            flip=bool(self.flips[index]),
            size=tuple(self.sizes[index].tolist()),
            grid=tuple(self.grids[index].tolist()),
            scales=self.scales[index],
            codes=None if self.codes is None else self.codes[index],
            latents=None if self.latents is None else self.latents[index],
            label=self.labels[index],
            text=self.texts[index],
            columns=parse_columns(self.columns[index]),
        )

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))


def check_row(row: Row) -> None:
    """`InputError` for a row that no format could write."""
    for name in ("key", "view", "label", "text"):
        value = getattr(row, name)
        if isinstance(value, str):
            _check_unicode(value, name)
    if isinstance(row.label, int) and not -(1 << 63) <= row.label < 1 << 63:
        raise InputError(f"a label is a number of 64 bits; got {row.label}")
    columns_text(row.columns)


def columns_text(columns: Mapping[str, Any]) -> str:
    """Columns -> canonical JSON: sorted names, no spaces, UTF-8; "" for none.

    Bytes become {"base64": "..."}, numbers that are not finite {"float": "nan"}, dates their ISO
    text. `parse_columns` reads it.
    """
    if not columns:
        return ""
    _check_names(columns)
    plain = {name: _plain(value, name) for name, value in columns.items()}
    text = compact(plain)
    _check_unicode(text, "columns")
    return text


def parse_columns(text: str) -> dict[str, Any]:
    """What `columns_text` gave -> the columns."""
    return {} if text == "" else {key: _meant(value) for key, value in json.loads(text).items()}


# --- inside -------------------------------------------------------------------------------------


def numbers_of(rows: Sequence[Sequence[int]], width: int) -> npt.NDArray[np.int32]:
    """Rows of numbers as (n, width); (0, width) without any."""
    return np.array(rows, np.int32) if rows else np.zeros((0, width), np.int32)


def _stacked(arrays: Sequence[Array | None], what: str) -> Array | list[Array] | None:
    """One array where all are of one shape; all rows have one, or none has."""
    there = [array for array in arrays if array is not None]
    if not there:
        return None
    if len(there) < len(arrays):
        raise InputError(f"{len(there)} of {len(arrays)} rows have {what}; all have, or none has")
    same = all(array.shape == there[0].shape for array in there)
    return np.stack(there) if same else there


def _joined(parts: Sequence[Array | list[Array] | None], what: str) -> Array | list[Array] | None:
    there = [part for part in parts if part is not None]
    if not there:
        return None
    if len(there) < len(parts):
        raise InputError(f"some of these rows have {what} and some have not")
    arrays = [part for part in there if isinstance(part, np.ndarray)]
    if len(arrays) == len(there) and all(a.shape[1:] == arrays[0].shape[1:] for a in arrays):
        return np.concatenate(arrays)
    return [array for part in there for array in part]


def _taken(arrays: Array | list[Array] | None, order: npt.NDArray[np.intp]) -> Any:
    """The arrays at these places; no row has none."""
    if arrays is None or not len(order):
        return None
    return arrays[order] if isinstance(arrays, np.ndarray) else [arrays[at] for at in order]


def _chained(parts: Sequence[Rows], column: Callable[[Rows], list[Any]]) -> list[Any]:
    return [value for part in parts for value in column(part)]


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is no text that UTF-8 can hold: {text!r}") from None


def _check_names(columns: Mapping[Any, Any]) -> None:
    """JSON would make text of some others, and two names one."""
    for name in columns:
        if not isinstance(name, str):
            raise InputError(f"columns are named by text; got {name!r}")


def _plain(value: Any, column: str) -> Any:
    """As JSON can hold it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist(), column)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        _check_names(value)
        plain = {key: _plain(member, column) for key, member in value.items()}
        return {"object": plain} if len(plain) == 1 and next(iter(plain)) in MARKS else plain
    if isinstance(value, (list, tuple)):
        return [_plain(member, column) for member in value]
    raise InputError(
        f"the column {column!r} holds a {type(value).__name__}; columns hold what JSON can, bytes, "
        "dates and arrays"
    )


def _meant(value: Any) -> Any:
    """What `_plain` was given, as far as JSON tells."""
    if isinstance(value, list):
        return [_meant(member) for member in value]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value)) if len(value) == 1 else None
    if mark == "base64":
        return base64.b64decode(value[mark])
    if mark == "float":
        return float(value[mark])
    members = value[mark] if mark == "object" else value
    return {key: _meant(member) for key, member in members.items()}

"""Where codes live among the ids of a vocabulary, and the order that a grid of them is written in.

A picture becomes `boi`, its rows of codes, each closed by `eol`, and `eoi`. So the sequence says
by itself how large the grid is. A clip closes each frame with `eof`; a clip of one frame is
written as the picture that it is. Codes that form no grid, those of several scales or of a
one-dimensional tokenizer, stand between `boi` and `eoi` as they are, in the order "sequence".
Integers only: this module knows neither torch nor weights.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NoReturn, cast

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError, ConfigError, LoadError, did_you_mean
from vqtok.layouts import Ids, Layout, closed, integers, shape_of

__all__ = ["ORDERS", "SPECIALS", "VisualVocab"]

ORDERS = ("raster", "column", "sequence")
# Begin and end of a picture, end of a row and of a frame, padding.
SPECIALS = ("boi", "eoi", "eol", "eof", "pad")
# Stands for the ids right after the codes, which the codes' own range decides.
AFTER_CODES = cast(int, None)

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class VisualVocab:
    """Which id stands for which code, and how a grid of codes becomes a sequence of ids.

    codebook_size  K, the number of codes
    offset         the id of code 0
    boi, eoi       begin and end of a picture
    eol, eof       end of a row, end of a frame of a clip
    pad            fills shorter sequences of a batch; may be `eoi`
    order          "raster", row by row, or "column", column by column, each then closed by `eol`;
                   "sequence" where codes form no grid
    row_ends       whether `eol` and `eof` are written; without them the grid has to be known. A
                   sequence has no rows
    depth          Q, the number of codes a token has, or 0 where codes have no such axis

    The special ids are the five after the codes unless given. The Q codes of a token follow each
    other, and code c of level l has the id offset + l * K + c: levels cannot be confused.
    """

    codebook_size: int
    offset: int = 0
    boi: int = AFTER_CODES
    eoi: int = AFTER_CODES
    eol: int = AFTER_CODES
    eof: int = AFTER_CODES
    pad: int = AFTER_CODES
    order: str = "raster"
    row_ends: bool = True
    depth: int = 0

    SCHEMA: ClassVar[str] = "vqtok-vocab/1"

    def __post_init__(self) -> None:
        for name, least in (("codebook_size", 1), ("offset", 0), ("depth", 0)):
            object.__setattr__(self, name, _setting(name, getattr(self, name), least))
        for place, name in enumerate(SPECIALS):
            given = getattr(self, name)
            value = self._end + place if given is None else _setting(name, given, 0)
            object.__setattr__(self, name, value)
        self._check_specials()
        if self.order not in ORDERS:
            raise ConfigError(
                f"there is no order {self.order!r}. {did_you_mean(self.order, ORDERS)}"
            )
        if not isinstance(self.row_ends, bool):
            raise ConfigError(f"row_ends is True or False; got {self.row_ends!r}")

    def _check_specials(self) -> None:
        seen: dict[int, str] = {}
        for name in SPECIALS:
            value = getattr(self, name)
            if self.offset <= value < self._end:
                raise ConfigError(
                    f"{name}={value} lies among the ids of the codes, [{self.offset}, {self._end})"
                )
            if value in seen and (seen[value], name) != ("eoi", "pad"):
                raise ConfigError(f"{seen[value]} and {name} are both {value}; only pad may be eoi")
            seen[value] = name

    # --- what it is -------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The smallest vocabulary that holds every id."""
        return 1 + max(self._end - 1, self.boi, self.eoi, self.eol, self.eof, self.pad)

    def length(self, grid: Sequence[int]) -> int:
        """How many ids a picture of `grid` (h, w), a clip of (t, h, w) or a sequence (L,) takes."""
        return self._layout(grid).body + 2

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        return {"schema": self.SCHEMA, **{f.name: getattr(self, f.name) for f in fields(self)}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> VisualVocab:
        """From what `to_dict` gave, and nothing else."""
        if stored.get("schema") != cls.SCHEMA:
            raise LoadError(
                f"a stored vocabulary has the schema {cls.SCHEMA!r}; got {stored.get('schema')!r}"
            )
        names = [field.name for field in fields(cls)]
        for key in stored:
            if key not in ("schema", *names):
                raise ConfigError(
                    f"a stored vocabulary has no setting {key!r}. {did_you_mean(key, names)}"
                )
        missing = [name for name in names if stored.get(name) is None]
        if missing:
            raise ConfigError(f"a stored vocabulary lacks {', '.join(missing)}")
        return cls(**{name: stored[name] for name in names})

    # --- grids and ids ----------------------------------------------------------------------

    def flatten(self, grid: Any, *, special: bool = True) -> Ids:
        """Codes (h, w), (t, h, w), in a sequence (L,), or with a last axis Q -> ids, int64, 1-D.

        `special=False` leaves out `boi` and `eoi`; rows keep their ends.
        """
        codes = self._as_frames(integers(grid, "codes"))
        if self.order == "column":
            codes = codes.swapaxes(1, 2)
        ids = codes + self.offset + self._levels() * self.codebook_size
        frames, rows = ids.shape[:2]
        body = closed(ids.reshape(frames * rows, -1), self.eol if self._closes_rows else None)
        ends = self._closes_rows and frames > 1
        body = closed(body.reshape(frames, -1), self.eof if ends else None)
        return np.pad(body.reshape(-1), int(special), constant_values=(self.boi, self.eoi))

    def unflatten(self, ids: Any, grid: Sequence[int] | None = None) -> Ids:
        """The ids of one picture or clip -> its codes, int64, as `flatten` took them.

        `boi` and `eoi` may be missing; padding, and text that follows `eoi`, is ignored. `grid`
        (h, w) or (t, h, w) is needed where rows do not end with an id, and is checked elsewhere.
        """
        body, start = self._body(integers(ids, "ids"))
        if self._closes_rows:
            layout, places = self._find_rows(body, start)
            if grid is not None:
                layout = self._expect(grid, layout)
        elif grid is None and self.is_flat:
            layout, places = self._count(body), np.arange(len(body))
        elif grid is None:
            raise CodesError(
                "rows of this vocabulary do not end with an id of their own, so these ids fit more "
                "than one grid; pass the grid, (h, w)"
            )
        else:
            layout, places = self._layout(grid), np.arange(len(body))
            if len(body) != layout.body:
                raise CodesError(
                    f"a grid of {layout.grid} takes {layout.body} ids; got {len(body)}"
                )
        codes = self._codes(body[places], places + start)
        codes = codes.reshape(layout.frames, layout.rows, -1, max(1, self.depth))
        if self.order == "column":
            codes = codes.swapaxes(1, 2)
        return codes.reshape(*layout.grid, *([self.depth] if self.depth else []))

    def allowed_next(self, ids: Sequence[int] | Ids, grid: Sequence[int]) -> Sequence[int]:
        """What may follow `ids`, the first ones of a picture of `grid` (h, w) or (t, h, w).

        For constrained generation: it looks at how many ids there are, and at whether the first is
        `boi`. Ranges and tuples, nothing that grows with the codebook, but before the first code.
        """
        layout = self._layout(grid)
        begun = len(ids) > 0 and int(ids[0]) == self.boi
        place = len(ids) - begun
        if place >= layout.body:
            return (self.eoi,) if place == layout.body else (self.pad,)
        place %= layout.frame
        if place == layout.rows * layout.row:
            return (self.eof,)
        place %= layout.row
        if place == layout.codes:
            return (self.eol,)
        codes = self._range(place % max(1, self.depth))
        return codes if len(ids) else (self.boi, *codes)

    # --- inside -----------------------------------------------------------------------------

    @property
    def is_flat(self) -> bool:
        """Whether codes are a sequence instead of a grid."""
        return self.order == "sequence"

    @property
    def _closes_rows(self) -> bool:
        return self.row_ends and not self.is_flat

    @property
    def _end(self) -> int:
        """The id after the last code's."""
        return self.offset + self.codebook_size * max(1, self.depth)

    def _levels(self) -> Ids:
        return np.arange(max(1, self.depth))

    def _range(self, level: int) -> range:
        first = self.offset + level * self.codebook_size
        return range(first, first + self.codebook_size)

    def _layout(self, grid: Sequence[int]) -> Layout:
        shape = shape_of(grid, flat=self.is_flat)
        frames, height, width = (1, 1, *shape)[-3:]
        rows, codes = (width, height) if self.order == "column" else (height, width)
        return Layout(
            shape,
            frames,
            rows,
            codes * max(1, self.depth),
            self._closes_rows,
            self._closes_rows and frames > 1,
        )

    def _count(self, body: Ids) -> Layout:
        """The length of a sequence."""
        if len(body) % max(1, self.depth):
            raise CodesError(
                f"these ids hold {len(body)} codes, which is no whole number of tokens with "
                f"{self.depth} codes each"
            )
        return self._layout((len(body) // max(1, self.depth),))

    def _as_frames(self, codes: npt.NDArray[np.integer]) -> Ids:
        """(t, h, w, Q or 1), checked."""
        last = f", {self.depth}" if self.depth else ""
        axes = codes.ndim - bool(self.depth)
        fits = axes == 1 if self.is_flat else axes in (2, 3)
        if not fits or 0 in codes.shape or (self.depth and codes.shape[-1] != self.depth):
            forms = f"(L{last or ','})" if self.is_flat else f"(h, w{last}) or (t, h, w{last})"
            raise CodesError(f"codes have the shape {forms}, all at least 1; got {codes.shape}")
        wrong = (codes < 0) | (codes >= self.codebook_size)
        if wrong.any():
            where = tuple(int(index) for index in np.argwhere(wrong)[0])
            raise CodesError(
                f"code {codes[where]} at {where} is outside the codebook, [0, {self.codebook_size})"
            )
        height, width = (1, *codes.shape[:axes])[-2:]
        codes = codes.reshape(-1, height, width, max(1, self.depth))
        return codes.astype(np.int64)

    def _body(self, ids: npt.NDArray[np.integer]) -> tuple[Ids, int]:
        """What stands between `boi` and `eoi`, and where it starts."""
        if ids.ndim != 1:
            raise CodesError(f"the ids of one picture have the shape (L,); got {ids.shape}")
        filled = np.flatnonzero(ids != self.pad)
        start = int(filled[0]) if len(filled) else len(ids)
        begins = np.flatnonzero(ids == self.boi)
        if len(begins) > 1:
            raise CodesError(
                f"these ids hold {len(begins)} pictures, which begin at {begins.tolist()}; pass "
                "the ids of one"
            )
        if len(begins) and begins[0] > start:
            raise CodesError(
                f"{begins[0] - start} ids stand before the picture, which begins (boi, {self.boi}) "
                f"at position {begins[0]}; pass the ids from there on"
            )
        if start < len(ids) and ids[start] == self.boi:
            start += 1
        body = ids[start:]
        ends = np.flatnonzero(body == self.eoi)
        body = body[: ends[0]] if len(ends) else body
        filled = np.flatnonzero(body != self.pad)
        body = body[: filled[-1] + 1] if len(filled) else body[:0]
        if not len(body):
            raise CodesError("these ids hold no codes")
        return body.astype(np.int64), start

    def _find_rows(self, body: Ids, start: int) -> tuple[Layout, Places]:
        """The grid that the row ends draw, and which ids of `body` are codes."""
        is_row_end, is_frame_end = body == self.eol, body == self.eof
        places = np.flatnonzero(~(is_row_end | is_frame_end))
        self._refuse_foreign(body[places], places + start)
        frame_ends = np.flatnonzero(is_frame_end)
        if not (is_row_end | is_frame_end)[-1]:
            raise CodesError(
                f"the last {self._row} has no end: after id {body[-1]} at position "
                f"{start + len(body) - 1} there is no eol ({self.eol})"
            )
        for place in frame_ends:
            if not place or not is_row_end[place - 1]:
                raise CodesError(
                    f"the frame end ({self.eof}) at position {place + start} does not follow the "
                    f"end of a {self._row} ({self.eol})"
                )
        row_ends = np.flatnonzero(is_row_end)
        rows = self._rows_a_frame(row_ends, frame_ends, len(body), start)
        width = self._codes_a_row(is_row_end, places, len(row_ends))
        frames = len(row_ends) // rows
        picture = (width, rows) if self.order == "column" else (rows, width)
        return self._layout((frames, *picture) if frames > 1 else picture), places

    def _refuse_foreign(self, ids: Ids, positions: Places) -> None:
        wrong = np.flatnonzero((ids < self.offset) | (ids >= self._end))
        if len(wrong):
            self._no_code(int(ids[wrong[0]]), int(positions[wrong[0]]))

    def _rows_a_frame(self, row_ends: Places, frame_ends: Places, total: int, start: int) -> int:
        if not len(frame_ends):
            return len(row_ends)
        if frame_ends[-1] != total - 1:
            raise CodesError(
                f"the last frame has no end ({self.eof}): {self._row}s follow the frame end at "
                f"position {start + frame_ends[-1]}"
            )
        counts = np.diff(np.searchsorted(row_ends, frame_ends), prepend=0)
        for frame in np.flatnonzero(counts != counts[0])[:1]:
            raise CodesError(
                f"frame {frame} has {counts[frame]} {self._row}s, frame 0 has {counts[0]}"
            )
        return int(counts[0])

    def _codes_a_row(self, is_row_end: npt.NDArray[np.bool_], places: Places, rows: int) -> int:
        """How many tokens each row has, where all have the same number."""
        counts = np.bincount(np.cumsum(is_row_end)[places], minlength=rows)
        for row in np.flatnonzero(counts != counts[0])[:1]:
            raise CodesError(
                f"{self._row} {row} has {counts[row]} codes, {self._row} 0 has {counts[0]}"
            )
        codes = int(counts[0])
        if not codes or codes % max(1, self.depth):
            per_token = f" with {self.depth} codes a token" if self.depth else ""
            raise CodesError(f"every {self._row} has {codes} codes, which is no grid{per_token}")
        return codes // max(1, self.depth)

    def _expect(self, grid: Sequence[int], found: Layout) -> Layout:
        wanted = self._layout(grid)
        if (1, *wanted.grid)[-3:] != (1, *found.grid)[-3:]:
            raise CodesError(f"these ids have the grid {found.grid}, not {wanted.grid}")
        return wanted

    def _codes(self, ids: Ids, positions: Places) -> Ids:
        levels = np.resize(self._levels(), len(ids))
        codes: Ids = ids - self.offset - levels * self.codebook_size
        wrong = np.flatnonzero((codes < 0) | (codes >= self.codebook_size))
        if len(wrong):
            first = wrong[0]
            self._no_code(int(ids[first]), int(positions[first]), int(levels[first]))
        return codes

    def _no_code(self, value: int, position: int, level: int = 0) -> NoReturn:
        names = "".join(f" ({name})" for name in SPECIALS if getattr(self, name) == value)
        inside = self.offset <= value < self._end
        found = self._range(level) if inside else range(self.offset, self._end)
        of = f" of level {level}" if inside else ""
        raise CodesError(
            f"id {value}{names} at position {position} is no code{of}: these have the ids "
            f"[{found.start}, {found.stop})"
        )

    @property
    def _row(self) -> str:
        """What messages call a run of codes that `eol` closes."""
        return "column" if self.order == "column" else "row"


def _setting(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ConfigError(f"{name} is a whole number, at least {least}; got {value!r}")
    return operator.index(value)

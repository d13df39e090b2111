"""Whether a data set's rows are what its source and its tokenizer make now.

The cheap half, sizes and checksums of files, is `vqtok.offline.check.verify`; this one encodes.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, InputError, VqtokError, plural
from vqtok.offline.compare import compare
from vqtok.offline.remake import Remaker, row_name
from vqtok.offline.worker import check_planned
from vqtok.types import Codes, LatentCodec

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.read import TokenSet
    from vqtok.offline.rows import Row
    from vqtok.sources import Source
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["SampleReport", "read_through", "verify_sample"]

NAMED = 5  # of each kind, in a report as text
Both: TypeAlias = "tuple[npt.NDArray[np.float32] | None, Codes]"


@dataclass
class SampleReport:
    """What was found; the set is sound where `ok`.

    rows        rows of the set
    outside     rows with ids outside the codebook
    duplicates  keys and views that several rows have
    used        codes that came at least once, of `codebook_size`; None in a set without codes
    compared    rows that were made again
    values      their ids, or numbers in latents where there are no ids
    equal       rows that came out equal
    near        rows that differ in ids where two codes are as good as equally near, or by rounding
    ties        ids that differ in these
    wrong       rows that differ otherwise, and how
    unjudged    rows that differ in ids by nobody knows how much, and in how many
    """

    rows: int = 0
    codebook_size: int = 0
    outside: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    used: int | None = None
    compared: int = 0
    values: int = 0
    equal: int = 0
    near: list[str] = field(default_factory=list)
    ties: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    unjudged: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong or may be; near ties and unused codes are not."""
        return not (self.outside or self.duplicates or self.wrong or self.unjudged)

    def __str__(self) -> str:
        lines = [
            f"{self.compared} of {self.rows} rows made again: {self.equal} equal, "
            f"{len(self.near)} but for near ties or rounding ({self.ties} of {self.values} "
            f"values), {len(self.wrong)} wrong",
            *_listed("wrong", [f"{name}: {why}" for name, why in self.wrong.items()]),
            *self._doubts(),
            *_listed("near tie or rounding", self.near),
            *_listed("outside the codebook", self.outside),
            *_listed("more than once", self.duplicates),
        ]
        if self.used is not None:
            lines.append(
                f"{self.used} of {self.codebook_size} codes in use, "
                f"{self.codebook_size - self.used} unused"
            )
        return "\n".join(lines)

    def _doubts(self) -> list[str]:
        """What is left to a tokenizer that has latents."""
        if not self.unjudged:
            return []
        rows, ids = plural(len(self.unjudged), "row"), sum(self.unjudged.values())
        return [
            f"{rows} with {ids} of {self.values} ids that differ, whose margins are not known "
            "without torch: the tokenizer that the graphs were exported from (--tokenizer) tells "
            "near ties from faults",
            *_listed("differs", [f"{name}: {n} ids" for name, n in self.unjudged.items()]),
        ]


def _listed(what: str, names: Sequence[str]) -> list[str]:
    more = [f"{what}: and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return [f"{what}: {name}" for name in names[:NAMED]] + more


def verify_sample(
    tokens: TokenSet,
    source: Source,
    tokenizer: VisualTokenizer,
    *,
    share: float = 0.01,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> SampleReport:
    """Reads all rows, and makes a share of them again from the source.

    tokens   a whole set, not opened as scaled latents
    source   as the job had it: videos already cut where the plan says so
    share    of the rows, in (0, 1]; at least one is taken
    advance  called with the number of rows made again, as they are

    Another source or tokenizer than the plan's is a `MismatchError`. Pictures go through the model
    in batches of the job's shape, clips one by one.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share is a part of the rows, above 0 and at most 1; got {share!r}")
    check_planned(tokens.plan, source, tokenizer)
    again = _Again(tokens.plan, tokenizer, Remaker(source, tokens.plan))
    report = read_through(tokens)
    for rows in _batches(_chosen(tokens, share, seed), tokens.plan):
        _judge(rows, again, report)
        if advance is not None:
            advance(len(rows))
    return report


def read_through(tokens: TokenSet) -> SampleReport:
    """Reads all rows once: ids outside the codebook, rows that are there twice, codes in use."""
    size = tokens.plan.tokenizer.codebook_size
    report = SampleReport(rows=len(tokens), codebook_size=size)
    seen = np.zeros(size, np.bool_)
    hashes = array("q")
    for row in tokens:
        hashes.append(hash((row.key, row.view)))
        if row.codes is None:
            continue
        inside = row.codes < size
        if not inside.all():
            report.outside.append(f"{row_name(row)} has {int(row.codes.max())} of {size}")
        seen[row.codes[inside]] = True
    if tokens.plan.with_codes:
        report.used = int(seen.sum())
    report.duplicates = _duplicates(tokens, np.asarray(hashes))
    return report


def _duplicates(tokens: TokenSet, hashes: npt.NDArray[np.int64]) -> list[str]:
    """Of rows with equal hashes, which are few, the names decide."""
    values, counts = np.unique(hashes, return_counts=True)
    often: dict[str, int] = {}
    for index in np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist():
        name = row_name(tokens[index])
        often[name] = often.get(name, 0) + 1
    return [name for name, count in often.items() if count > 1]


def _chosen(tokens: TokenSet, share: float, seed: int) -> Iterator[Row]:
    if not len(tokens):
        return
    count = max(1, round(share * len(tokens)))
    for index in sorted(random.Random(seed).sample(range(len(tokens)), count)):
        yield tokens[index]


def _batches(rows: Iterator[Row], plan: Plan) -> Iterator[list[Row]]:
    """Rows of one size, as many as a batch of the job holds; clips one by one."""
    waiting: dict[tuple[int, ...], list[Row]] = {}
    size = 1 if plan.tokenizer.is_video else plan.batch
    for row in rows:
        batch = waiting.setdefault(row.size, [])
        batch.append(row)
        if len(batch) == size:
            yield waiting.pop(row.size)
    yield from waiting.values()


def _judge(rows: Sequence[Row], again: _Again, report: SampleReport) -> None:
    """Writes into the report how rows of one size come out."""
    report.compared += len(rows)
    for row, made in zip(rows, again.made(rows), strict=True):
        try:
            if isinstance(made, VqtokError):
                raise made
            outcome = compare(row, *made, again.plan, again.tokenizer)
        except VqtokError as error:
            report.wrong[row_name(row)] = str(error)
            continue
        kept = row.latents if row.codes is None else row.codes
        report.values += 0 if kept is None else kept.size
        report.ties += outcome.ties
        if outcome.unjudged:
            report.unjudged[row_name(row)] = outcome.unjudged
        elif outcome.ties or outcome.rounded:
            report.near.append(row_name(row))
        else:
            report.equal += 1


class _Again:
    """Rows -> what the encoder makes of their pixels."""

    def __init__(self, plan: Plan, tokenizer: VisualTokenizer, remaker: Remaker) -> None:
        self._gives_latents = isinstance(tokenizer.codec, LatentCodec)
        if plan.with_latents and not self._gives_latents:
            raise InputError(
                "rows with latents are made again with torch; this tokenizer runs on "
                f"{tokenizer.codec.runs_on} here, which gives codes but no latents"
            )
        self.plan, self.tokenizer = plan, tokenizer
        self._codec: Any = tokenizer.codec
        self._remaker = remaker

    def made(self, rows: Sequence[Row]) -> list[Both | VqtokError]:
        """Of each row of one size: latents (1, D, *grid) before quantization, and codes.

        Or why there are none. Of a tokenizer that gives no latents, None in their place.
        """
        if self.plan.tokenizer.is_video:
            return [_tried(self._clip, row) for row in rows]
        found = [_tried(self._remaker.picture, row) for row in rows]
        pixels = {place: each for place, each in enumerate(found) if isinstance(each, np.ndarray)}
        if not pixels:
            return found
        batch = np.zeros((self.plan.batch, *next(iter(pixels.values())).shape), np.uint8)
        for place, picture in pixels.items():
            batch[place] = picture
        both = _tried(self._both, batch)
        if isinstance(both, VqtokError):
            return [both] * len(rows)
        latents, codes = both
        return [
            (None if latents is None else latents[place : place + 1], codes[place])
            if place in pixels
            else each
            for place, each in enumerate(found)
        ]

    def _both(self, batch: npt.NDArray[np.uint8]) -> Both:
        if not self._gives_latents:
            return None, self._codec.encode(batch)
        both: Both = self._codec.encode_latents(batch)
        return both

    def _clip(self, row: Row) -> Both:
        frames = self._remaker.frames(row)
        if not self._gives_latents:
            return None, self._codec.encode_frames(frames, row.size[-2:])
        both: Both = self._codec.encode_frame_latents(frames, row.size[-2:])
        return both


def _tried(make: Callable[[Any], Any], given: Any) -> Any:
    """What `make` gives, or the error that it raises."""
    try:
        return make(given)
    except VqtokError as error:
        return error

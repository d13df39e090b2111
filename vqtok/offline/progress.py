"""What whoever started a job sees of it, and when too much of it has failed."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from vqtok.errors import ConfigError, InputError
from vqtok.offline.records import Failure, Record, Timing

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = ["Progress", "Span", "allowed", "speed_of"]

SHOWN = 3
WINDOW = 300.0  # seconds that the speed is measured over
EVERY = 0.5  # seconds between two times that rows under way are told of


class Span(NamedTuple):
    """Rows, planned for or made, and the time that they took; `end` is by anybody's clock."""

    end: float
    seconds: float
    rows: int


def speed_of(spans: Collection[Span], now: float) -> float | None:
    """Rows a second over the last five minutes; None where there were none.

    What began before counts with the part of its time that lies within.
    """
    start = max(now - WINDOW, min((each.end - each.seconds for each in spans), default=now))
    rows = 0.0
    for each in spans:
        inside = min(each.end, now) - max(each.end - each.seconds, start)
        rows += each.rows * min(max(inside / max(each.seconds, 1e-9), 0.0), 1.0)
    return rows / (now - start) if rows and now > start else None


def allowed(max_failed: str | int | float | None, planned: int) -> int | None:
    """How many of the planned rows may fail: "1%", .01 or 10; None: any number."""
    if max_failed is None:
        return None
    match = re.fullmatch(r"\s*((?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)\s*(%?)\s*", str(max_failed))
    value = Decimal(match[1]) / (100 if match[2] else 1) if match else Decimal(-1)
    share = not isinstance(max_failed, int) and not str(max_failed).strip().isdecimal()
    if match is None or (share and value > 1):
        raise ConfigError(
            f"max_failed is a number of rows such as 10, or a share such as 1%; got {max_failed!r}"
        )
    return int(planned * value) if share else int(value)


class Progress:
    """Counts what is done, as an engine's `Watch`.

    limit    rows that may fail; None: any number
    told     called after every shard, and now and then between
    planned  rows of the shards that are to be done, those done before among them
    before   records that are there already
    """

    def __init__(
        self,
        plan: Plan,
        before: Iterable[Record] = (),
        *,
        planned: int | None = None,
        limit: int | None = None,
        told: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.planned = sum(map(plan.planned, range(plan.shards))) if planned is None else planned
        self.rows = 0
        self.failed = Counter[str]()
        self.waits = Counter[str]()
        self.examples: list[Failure] = []
        self.shards = 0
        self._limit = limit
        self._told = told
        self._busy = 0.0
        self._start = time.monotonic()
        self._lately: deque[Span] = deque()
        self._working: dict[int, Span] = {}
        self._drawn = self._last = self._start
        for record in before:
            self._count(record)

    def __call__(self, record: Record, timing: Timing | None) -> None:
        """A shard is done; an InputError where too many rows have failed by now."""
        self._count(record)
        self.shards += 1
        now = time.monotonic()
        self._working.pop(record.shard, None)
        took = now - self._last if timing is None else min(timing.seconds, now - self._start)
        self._lately.append(Span(now, took, record.planned))
        self._last = now
        while self._lately[0].end < now - WINDOW:
            self._lately.popleft()
        if timing is not None:
            self._busy += timing.seconds
            self.waits.update(timing.waits)
        self._told(self)
        self.check()

    def working(self, shard: int, rows: int) -> None:
        """So many rows of a shard are there that this run is about to make."""
        now = time.monotonic()
        before = self._working.get(shard)
        began = now if before is None else before.end - before.seconds
        self._working[shard] = Span(now, now - began, rows)
        if now - self._drawn >= EVERY:
            self._drawn = now
            self._told(self)

    @property
    def reached(self) -> int:
        """Rows that are there or have failed, or that are there of shards under way."""
        under_way = sum(span.rows for span in self._working.values())
        return min(self.rows + self.lost + under_way, self.planned)

    @property
    def lost(self) -> int:
        """Rows that failed."""
        return sum(self.failed.values())

    @property
    def speed(self) -> float | None:
        """Rows a second over the last five minutes; None before the first."""
        return speed_of([*self._lately, *self._working.values()], time.monotonic())

    @property
    def seconds_left(self) -> float | None:
        """At this speed; None where there is none."""
        speed = self.speed
        return None if speed is None else (self.planned - self.reached) / speed

    @property
    def wait_shares(self) -> dict[str, float]:
        """Of the time that shards took, what went into waiting, by what for."""
        return {name: seconds / self._busy for name, seconds in self.waits.items() if self._busy}

    def check(self) -> None:
        """Raises the InputError, where too many rows have failed."""
        if self._limit is None or self.lost <= self._limit:
            return
        shown = "; ".join(
            f"{each.key!r} ({each.stage}: {each.reason})" for each in self.examples[:SHOWN]
        )
        raise InputError(
            f"{self.lost} of {self.planned} rows have failed, and max_failed allows "
            f"{self._limit}; first: {shown}. What is done stays: allow more and run it again to go "
            "on; retry-failed makes up for those that can be read later"
        )

    def _count(self, record: Record) -> None:
        self.rows += record.rows
        for failure in record.failed:
            self.failed[failure.stage] += failure.rows
        self.examples += record.failed[: SHOWN - len(self.examples)]

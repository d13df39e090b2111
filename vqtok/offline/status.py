"""How far a job is, told from its store alone: from any machine, while it runs or afterwards."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vqtok.offline.leases import Claim, claims
from vqtok.offline.ledger import failures, read_plan, read_records, read_timings
from vqtok.offline.manifest import MANIFEST
from vqtok.offline.progress import Span, speed_of
from vqtok.offline.records import Timing
from vqtok.offline.store import Store

__all__ = ["Status", "Working", "status"]

SLOW = 3.0  # times what a shard usually takes


@dataclass(frozen=True)
class Working:
    """Somebody who works on a shard, and has not been silent for longer than its lease.

    seconds  since it was claimed, by the clocks of that machine and this
    silent   seconds without a sign of life
    slow     whether it takes several times as long as others did
    """

    shard: int
    attempt: int
    host: str
    pid: int
    seconds: float
    silent: float
    slow: bool


@dataclass(frozen=True)
class Status:
    """A job's state.

    planned, rows  rows in all, and those that are there
    failed         rows that are missing after all retries, by stage
    speed          rows a second over the last five minutes; None where nothing was done in them
    seconds_left   at that speed
    waits          of the time that shards took, the shares that went into waiting
    differing      shards that came out differently for a worker that was second
    complete       whether the manifest is written
    """

    url: str
    shards: int
    done: int
    working: list[Working]
    planned: int
    rows: int
    failed: dict[str, int]
    speed: float | None
    seconds_left: float | None
    waits: dict[str, float]
    differing: list[int]
    complete: bool

    @property
    def left(self) -> int:
        """Shards that nobody has begun, or whose worker is gone."""
        first = {each.shard for each in self.working if each.attempt == 0}
        return self.shards - self.done - len(first)

    @property
    def lost(self) -> int:
        """Rows that failed."""
        return sum(self.failed.values())

    @property
    def stragglers(self) -> list[Working]:
        """Those who take far longer than others did."""
        return [each for each in self.working if each.slow]


def status(store: Store, now: float | None = None) -> Status:
    """Reads plan, records, timings and claims; a LoadError where there is no plan.

    now  seconds since 1970; by this machine's clock unless it is given
    """
    now = time.time() if now is None else now
    plan, records, timings = read_plan(store), read_records(store), read_timings(store)
    there = {(record.shard, record.attempt) for record in records}
    held = [
        claim
        for claim in claims(store)
        if (claim.shard, claim.attempt) not in there and not claim.is_silent
    ]
    missing = Counter[str]()
    for lost in failures(records).values():
        for failure in lost:
            missing[failure.stage] += failure.rows
    planned = sum(map(plan.planned, range(plan.shards)))
    rows = sum(record.rows for record in records)
    speed = speed_of(
        [Span(each.finished, each.seconds, each.rows + each.failed) for each in timings], now
    )
    return Status(
        url=store.url,
        shards=plan.shards,
        done=len({record.shard for record in records}),
        working=_working(held, timings, now),
        planned=planned,
        rows=rows,
        failed=dict(sorted(missing.items())),
        speed=speed,
        seconds_left=(planned - rows - missing.total()) / speed if speed else None,
        waits=_waits(timings),
        differing=sorted({timing.shard for timing in timings if timing.differs is not None}),
        complete=store.exists(MANIFEST),
    )


def _working(held: Sequence[Claim], timings: Sequence[Timing], now: float) -> list[Working]:
    usual = statistics.median([timing.seconds for timing in timings]) if timings else None
    return [
        Working(
            shard=claim.shard,
            attempt=claim.attempt,
            host=claim.host,
            pid=claim.pid,
            seconds=max(now - claim.since, 0.0),
            silent=claim.age,
            slow=usual is not None and now - claim.since > SLOW * usual,
        )
        for claim in held
    ]


def _waits(timings: Sequence[Timing]) -> dict[str, float]:
    whole = sum(timing.seconds for timing in timings)
    waits = Counter[str]()
    for timing in timings:
        waits.update(timing.waits)
    return {name: seconds / whole for name, seconds in sorted(waits.items())} if whole else {}

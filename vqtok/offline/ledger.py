"""What a store says of itself: its plan, its records, and what they leave to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vqtok.errors import LoadError
from vqtok.offline.plan import Plan
from vqtok.offline.records import DONE, TIMINGS, Failure, Record, Timing, stem, unstem
from vqtok.offline.store import Store

__all__ = [
    "AT_ONCE",
    "PLAN",
    "News",
    "done",
    "failures",
    "next_attempt",
    "read_plan",
    "read_records",
    "read_timing",
    "read_timings",
    "record_name",
    "todo",
]

PLAN = "plan.json"
AT_ONCE = 16  # requests, to stores that take long to answer one

_log = logging.getLogger(__name__)

Stored = TypeVar("Stored")


def read_plan(store: Store) -> Plan:
    """A LoadError where there is none."""
    if not store.exists(PLAN):
        raise LoadError(f"'{store.url}' holds no {PLAN}: it is no data set of tokens")
    return Plan.from_bytes(store.get(PLAN), f"{store.url}/{PLAN}")


def record_name(shard: int, attempt: int = 0) -> str:
    """Where a record is kept."""
    return f"{DONE}{stem(shard, attempt)}.json"


def done(store: Store, attempt: int = 0) -> set[int]:
    """The shards that have a record of this attempt."""
    found = (unstem(name.removeprefix(DONE)) for name in _jsons(store, DONE))
    return {shard for shard, each in found if each == attempt}


def read_records(store: Store, *, drop_torn: bool = False) -> list[Record]:
    """All, by shard and then attempt.

    drop_torn  take away those of which only a part is there, so that their shards are made again
    """
    found = _read_all(_jsons(store, DONE), lambda name: _read_record(store, name, drop_torn))
    there = [record for record in found if record is not None]
    return sorted(there, key=lambda record: (record.shard, record.attempt))


def _read_record(store: Store, name: str, drop_torn: bool = False) -> Record | None:
    """None, with a warning, for what a writer left half written, where a store can't do better."""
    data = store.get(name)
    if _is_torn(data):
        _log.warning(
            "'%s/%s' is no whole record: its shard counts as not done; the job makes it again when "
            "it is started again",
            store.url,
            name,
        )
        if drop_torn and _is_torn(store.get(name)):
            store.delete(name)
        return None
    return Record.from_bytes(data, f"{store.url}/{name}")


def read_timing(store: Store, shard: int, attempt: int) -> Timing | None:
    """None where there is none yet, or none that can be read."""
    name = f"{TIMINGS}{stem(shard, attempt)}.json"
    try:
        return Timing.from_bytes(store.get(name), name) if store.exists(name) else None
    except LoadError:
        return None


def read_timings(store: Store) -> list[Timing]:
    """All that can be read, by shard and then attempt."""
    places = [unstem(name.removeprefix(TIMINGS)) for name in _jsons(store, TIMINGS)]
    found = _read_all(sorted(places), lambda place: read_timing(store, *place))
    return [timing for timing in found if timing is not None]


def failures(records: Sequence[Record]) -> dict[int, list[Failure]]:
    """What is still missing, by shard: the failures of its last attempt, where it has any."""
    last: dict[int, Record] = {}
    for record in records:
        if record.shard not in last or record.attempt > last[record.shard].attempt:
            last[record.shard] = record
    return {shard: last[shard].failed for shard in sorted(last) if last[shard].failed}


def next_attempt(records: Sequence[Record]) -> int:
    """That of the next `retry-failed`: one that was broken off is done to its end first."""
    missing = failures(records)
    return 1 + min(
        (max(record.attempt for record in records if record.shard == shard) for shard in missing),
        default=0,
    )


def todo(plan: Plan, records: Sequence[Record], attempt: int = 0) -> list[int]:
    """The shards that this attempt has to make."""
    there = {(record.shard, record.attempt) for record in records}
    if attempt == 0:
        return [shard for shard in range(plan.shards) if (shard, 0) not in there]
    return [
        shard
        for shard in failures(records)
        if (shard, attempt) not in there and (shard, attempt - 1) in there
    ]


class News:
    """Tells `watch` of the shards of `wanted` that are done, each once, whoever did them."""

    def __init__(
        self,
        store: Store,
        attempt: int,
        wanted: Iterable[int],
        watch: Callable[[Record, Timing | None], None],
    ) -> None:
        self.left = set(wanted)
        self._store = store
        self._attempt = attempt
        self._watch = watch
        self._working = getattr(watch, "working", None)

    def working(self, shard: int, rows: int) -> None:
        """Tells of rows of a shard that is under way, whoever wants to know."""
        if self._working is not None and shard in self.left:
            self._working(shard, rows)

    def look(self) -> None:
        """Asks for all that is done."""
        if not self.left:
            return
        for shard in sorted(self.left & done(self._store, self._attempt)):
            self._tell(shard)

    def of(self, shard: int) -> bool:
        """Whether this shard is done; asks for it alone."""
        if shard in self.left and self._store.exists(record_name(shard, self._attempt)):
            self._tell(shard)
        return shard not in self.left

    def _tell(self, shard: int) -> None:
        record = _read_record(self._store, record_name(shard, self._attempt))
        if record is None:
            return
        self.left.discard(shard)
        self._watch(record, read_timing(self._store, shard, self._attempt))


def _is_torn(data: bytes) -> bool:
    """Whether it is the beginning of something that is JSON when it is whole."""
    try:
        json.loads(data)
    except ValueError:
        return True
    return False


def _jsons(store: Store, folder: str) -> list[str]:
    return [name for name in store.list(folder) if name.endswith(".json")]


def _read_all(
    names: Sequence[str] | Sequence[tuple[int, int]], read: Callable[..., Stored]
) -> list[Stored]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read, names))

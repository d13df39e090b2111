"""Whether a data set is what its plan and records say; what is not names shard and problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING

from vqtok.errors import LoadError
from vqtok.offline.ledger import AT_ONCE, read_plan, read_records
from vqtok.offline.manifest import MANIFEST, Manifest, manifest_of
from vqtok.offline.records import SHARDS, File, Record, sha256, stem, unstem
from vqtok.offline.store import Store

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = ["leftovers", "listed", "problems", "unnamed", "verify"]

SHOWN = 5


def verify(store: Store, full: bool = False) -> list[str]:
    """A sentence for each problem; none for a data set that is whole.

    full  read every file and compare its sha256; without it, only names and sizes
    """
    plan, records = read_plan(store), read_records(store)
    found = problems(store, plan, records, full)
    found += [f"'{name}' is named by no record" for name in unnamed(store, records)]
    return found or _of_manifest(store, plan, records)


def problems(store: Store, plan: Plan, records: Sequence[Record], full: bool) -> list[str]:
    """What is wrong with records and the files that they name."""
    found = list(_missing(plan, records))
    for shard, several in groupby(records, lambda record: record.shard):
        found += _of_shard(plan, shard, list(several))
    named = [(record.shard, file) for record in records for file in record.files]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        faults = pool.map(lambda each: _of_file(store, each[1], full), named)
        for (shard, file), fault in zip(named, faults, strict=True):
            found += [f"shard {shard}: '{SHARDS}{file.name}' {fault}"] if fault else []
    return found


def unnamed(store: Store, records: Sequence[Record]) -> list[str]:
    """Files in shards/ that no record names."""
    named = {SHARDS + file.name for record in records for file in record.files}
    return [name for name in store.list(SHARDS) if name not in named]


def listed(items: Sequence[object]) -> str:
    """For messages: the first few."""
    shown = ", ".join(map(str, items[:SHOWN]))
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"


def _missing(plan: Plan, records: Sequence[Record]) -> Iterator[str]:
    left = sorted(set(range(plan.shards)) - {record.shard for record in records})
    if left:
        word = "shard is" if len(left) == 1 else "shards are"
        yield f"{len(left)} of {plan.shards} {word} not done: {listed(left)}"


def _of_shard(plan: Plan, shard: int, records: Sequence[Record]) -> Iterator[str]:
    if shard >= plan.shards:
        yield f"shard {shard}: the plan has only {plan.shards} shards"
        return
    planned = plan.planned(shard)
    for attempt, record in enumerate(records):
        where = f"shard {shard}" + (f", retry {record.attempt}" if record.attempt else "")
        if record.attempt != attempt:
            yield f"{where}: the record of what came before it is missing"
            return
        if record.plan != plan.hash:
            yield f"{where}: it was made after another plan, {record.plan[:16]}"
        if (record.planned, record.rows + record.lost) != (planned, planned):
            yield (
                f"{where}: {planned} rows were planned; the record says {record.planned}, with "
                f"{record.rows} there and {record.lost} failed"
            )
        planned = record.lost


def _of_file(store: Store, file: File, full: bool) -> str | None:
    size = store.size(SHARDS + file.name)
    if size is None:
        return "is missing"
    if size != file.bytes:
        return f"has {size} bytes; the record says {file.bytes}"
    if full and sha256(store.get(SHARDS + file.name)) != file.sha256:
        return "holds other bytes than were written"
    return None


def _of_manifest(store: Store, plan: Plan, records: Sequence[Record]) -> list[str]:
    if not store.exists(MANIFEST):
        return [f"there is no '{MANIFEST}': all is done, but the end was not written"]
    try:
        stored = Manifest.from_bytes(store.get(MANIFEST), MANIFEST)
    except LoadError as error:
        return [str(error)]
    same = stored == manifest_of(plan, records)
    return [] if same else [f"'{MANIFEST}' is not that of the records that are there"]


def leftovers(store: Store, records: Sequence[Record]) -> list[str]:
    """Unnamed files of shards that are done: what a worker left that came second or was killed.

    Those of a retry that has no record yet may be under way, and are left alone.
    """
    there = {stem(record.shard, record.attempt) for record in records}
    return [
        name
        for name in unnamed(store, records)
        if stem(*unstem(name.removeprefix(SHARDS))) in there
    ]

"""`vqtok status`: how far a job is. It is to be quick, so no torch here."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

import typer

from vqtok.commands.figures import duration, failed_lines, waits_of
from vqtok.commands.progress import say
from vqtok.offline.ledger import PLAN, failures, read_records
from vqtok.offline.status import Status, Working, status
from vqtok.offline.store import Store, open_store
from vqtok.sources.remote import place

__all__ = ["run"]

SHOWN = 8  # workers
EVERY = 2.0  # seconds, while somebody watches


def run(out: str, *, as_json: bool, failed: bool, watch: bool) -> int:
    """Prints it, again and again where that is wanted; returns the exit status."""
    store = _awaited(out) if watch else open_store(out)
    if failed:
        _failed(store)
        return 0
    while True:
        found = status(store)
        text = _json(found) if as_json else "\n".join(_lines(store, found))
        if watch and sys.stdout.isatty() and not as_json:
            text = f"\x1b[H\x1b[J{text}"
        typer.echo(text)
        if not watch or found.complete:
            return 0
        time.sleep(EVERY)


def _awaited(out: str) -> Store:
    """The store, as soon as there is something in it."""
    told = False
    while True:
        store = _begun(out)
        if store is not None:
            return store
        if not told:
            say(f"there is nothing at '{out}' yet; it is waited for")
            told = True
        time.sleep(EVERY)


def _begun(out: str) -> Store | None:
    """None where a job has not written its plan yet."""
    where = place(out)
    if isinstance(where, Path) and not where.exists():
        return None
    store = open_store(out)
    return None if not store.exists(PLAN) and store.is_empty() else store


def _failed(store: Store) -> None:
    """A line of JSON for each sample that is missing."""
    for shard, lost in failures(read_records(store)).items():
        for failure in lost:
            typer.echo(json.dumps({"shard": shard, **failure.model_dump()}, ensure_ascii=False))


def _json(found: Status) -> str:
    return json.dumps({**asdict(found), "left": found.left, "lost": found.lost})


def _lines(store: Store, found: Status) -> list[str]:
    lines = [
        f"{found.url}: {_state(found)}",
        f"shards: {found.done:,} of {found.shards:,} done, {len(found.working):,} under way, "
        f"{found.left:,} left",
        f"rows: {found.rows:,} of {found.planned:,}",
    ]
    if found.lost:
        lines += failed_lines(read_records(store), found.planned)
    if not found.complete and found.speed is not None:
        left = "" if found.seconds_left is None else f", {duration(found.seconds_left)} left"
        lines.append(f"speed: {found.speed:,.1f} img/s{left}")
    if found.waits:
        lines.append(f"waits: {waits_of(found.waits)}")
    lines += [_worker(each) for each in found.working[:SHOWN]]
    if len(found.working) > SHOWN:
        lines.append(f"  and {len(found.working) - SHOWN:,} more workers")
    if found.differing:
        lines.append(
            f"made twice, with other results the second time: shards {found.differing}; the first "
            "ones stay"
        )
    return lines + _next(found)


def _state(found: Status) -> str:
    if found.complete:
        return "finished"
    return "under way" if found.working else "not finished, and nobody works on it"


def _worker(each: Working) -> str:
    slow = "; that is slow" if each.slow else ""
    return (
        f"  shard {each.shard}: {each.host}, process {each.pid}, for {duration(each.seconds)}, "
        f"heard of {duration(each.silent)} ago{slow}"
    )


def _next(found: Status) -> list[str]:
    out = shlex.quote(found.url)
    if not found.complete:
        return (
            [] if found.working else ["next: run its `vqtok tokenize` again; it goes on from here"]
        )
    lines = [f"records alone are read; vqtok verify {out} looks at the files"]
    if found.lost:
        lines.append(f"next: vqtok status {out} --failed; once mended, vqtok retry-failed {out}")
    return lines

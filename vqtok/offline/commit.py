"""How a shard becomes part of a data set: data first, then the record that names it.

Whoever writes the record first has done the shard. A worker that was stopped and comes late with
the same bytes has lost nothing; one that comes with other bytes (another kind of processor, say)
loses too, and that is said.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vqtok.errors import LoadError, VqtokError
from vqtok.offline.folder import FolderStore
from vqtok.offline.ledger import read_timing
from vqtok.offline.records import SHARDS, TIMINGS, File, Made, Record, sha256, stem
from vqtok.offline.store import Store

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = ["Outcome", "commit"]

Outcome = Literal["won", "lost", "differs"]

_log = logging.getLogger(__name__)


def commit(store: Store, plan: Plan, made: Made) -> Outcome:
    """Writes a shard, unless it is there.

    "won": it is this one. "lost": another was first, with the same bytes. "differs": another was
    first, with other bytes, which stay.
    """
    if made.attempt and not made.record.rows:  # a retry that mends nothing adds no data
        record = made.record.model_copy(update={"files": []})
        made = made._replace(files={}, record=record)
    if store.exists(made.record.name):
        return _lose(store, plan, made, [])
    files = [_put(store, made, file) for file in made.record.files]
    record = made.record.model_copy(update={"files": files})
    if not store.put_if_absent(record.name, record.to_bytes()):
        return _lose(store, plan, made, files)
    if made.timing is not None:
        _put_timing(store, made, None)
    return "won"


def _put(store: Store, made: Made, file: File) -> File:
    """Under its name, or one of its own where somebody left other bytes under that.

    Always of its own where two who write at once could both take themselves for the first.
    """
    data, own = made.files[file.name], _own_name(made, file)
    for name in (file.name, own) if store.atomic else (own,):
        there = store.put_if_absent(SHARDS + name, data) or (
            sha256(store.get(SHARDS + name)) == file.sha256
        )
        if there:
            return file.model_copy(update={"name": name})
    raise LoadError(
        f"'{store.url}/{SHARDS}{own}' holds other bytes than those whose hash it is named by; "
        "delete it and run it again"
    )


def _own_name(made: Made, file: File) -> str:
    start = stem(made.shard, made.attempt)
    return f"{start}-{file.sha256[:12]}{file.name.removeprefix(start)}"


def _lose(store: Store, plan: Plan, made: Made, put: Sequence[File]) -> Outcome:
    first = Record.from_bytes(store.get(made.record.name), made.record.name)
    named = {file.name for file in first.files}
    for file in put if store.atomic else ():  # elsewhere a record that names it may yet come
        if file.name not in named:
            store.delete(SHARDS + file.name)
    if [file.sha256 for file in first.files] == [file.sha256 for file in made.record.files]:
        return "lost"
    rows = _differing(store, plan, made, first)
    _log.warning(
        "shard %d: %s of %d rows came out other than those of the worker that was first; its rows "
        "stay",
        made.shard,
        "an unknown number" if rows is None else rows,
        made.record.rows,
    )
    _put_timing(store, made, rows)
    return "differs"


def _put_timing(store: Store, made: Made, differs: int | None) -> None:
    """Notes how the shard was made, or on what is noted already that another came out otherwise."""
    timing = made.timing
    if differs is not None:
        timing = read_timing(store, made.shard, made.attempt) or timing
    if timing is not None:
        noted = timing.model_copy(update={"differs": differs})
        store.put(f"{TIMINGS}{stem(made.shard, made.attempt)}.json", noted.to_bytes())


def _differing(store: Store, plan: Plan, made: Made, first: Record) -> int | None:
    """How many rows are not the same; None where they cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        ours = FolderStore(Path(folder))
        for name, data in made.files.items():
            ours.put(SHARDS + name, data)
        try:
            one = _rows(ours, plan, sorted(made.files))
            other = _rows(store, plan, [file.name for file in first.files])
        except (VqtokError, OSError, ValueError):
            return None
    same = sum(_equal(other.get(place), row) for place, row in one.items())
    return max(len(one), len(other)) - same


def _rows(store: Store, plan: Plan, names: Sequence[str]) -> dict[tuple[str, str], Any]:
    """Rows by key and view."""
    from vqtok.offline.formats import FORMATS

    reader = FORMATS[plan.format].read(store, list(names), plan)
    return {(row.key, row.view): row for row in reader.rows(0, len(reader))}


def _equal(one: Any, other: Any) -> bool:
    """Whether two rows hold the same codes and latents."""
    return one is not None and all(
        (a is None) == (b is None) and (a is None or np.array_equal(a, b))
        for a, b in ((one.codes, other.codes), (one.latents, other.latents))
    )

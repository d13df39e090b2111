"""Data sets in folders, made without a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import token_rows

from vqtok.offline.formats import FORMATS
from vqtok.offline.ledger import read_records
from vqtok.offline.manifest import MANIFEST, manifest_of
from vqtok.offline.moments import Moments
from vqtok.offline.plan import Plan
from vqtok.offline.records import (
    SHARDS,
    Failure,
    Record,
    count_labels,
    describe,
    pack_histogram,
    sha256,
    stem,
)
from vqtok.offline.rows import Row, Rows
from vqtok.offline.store import Store, open_store


def expected(of: Plan, keys: Sequence[str], **changes: Any) -> list[Row]:
    """All rows that a job would make."""
    return [
        token_rows.row(key, of, 10 * seed + number, view=view, **changes)
        for seed, key in enumerate(keys)
        for number, view in enumerate(of.view_names)
    ]


def write(
    root: Path,
    of: Plan,
    keys: Sequence[str],
    lost: Sequence[tuple[str, str]] = (),
    retried: Sequence[tuple[str, str]] = (),
    finish: bool = True,
    **changes: Any,
) -> list[Row]:
    """A data set at `root`, and its rows in order.

    lost     (key, view) of rows that fail
    retried  those of them that a retry makes
    """
    store = open_store(str(root), create=True)
    store.put("plan.json", of.to_bytes())
    rows, made = expected(of, keys, **changes), list[Row]()
    for shard in range(of.shards):
        inside = {keys[index] for index in of.range(shard)}
        mine = [row for row in rows if row.key in inside]
        first = [row for row in mine if (row.key, row.view) not in lost]
        missing = [row for row in mine if (row.key, row.view) in lost]
        made += _put(store, of, shard, 0, first, missing)
        again = [row for row in missing if (row.key, row.view) in retried]
        if again:
            still = [row for row in missing if (row.key, row.view) not in retried]
            made += _put(store, of, shard, 1, again, still)
    if finish:
        finished(store, of)
    return made


def finished(store: Store, of: Plan) -> None:
    """Writes the manifest."""
    store.put(MANIFEST, manifest_of(of, read_records(store)).to_bytes())


def _put(
    store: Store, of: Plan, shard: int, attempt: int, rows: list[Row], missing: list[Row]
) -> list[Row]:
    files = FORMATS[of.format].write(Rows.of(rows), of, stem(shard, attempt))
    for name, data in files.items():
        store.put(SHARDS + name, data)
    record = Record(
        shard=shard,
        attempt=attempt,
        plan=of.hash,
        planned=len(rows) + len(missing),
        rows=len(rows),
        failed=[
            Failure(key=row.key, index=0, rows=1, stage="read", reason="gone") for row in missing
        ],
        files=describe(files),
        codes_sha256=sha256(b"".join(row.codes.tobytes() for row in rows if row.codes is not None)),
        histogram=_histogram(of, rows),
        labels=count_labels(row.label for row in rows),
        moments=_moments(of, rows),
    )
    store.put(record.name, record.to_bytes())
    return rows


def _histogram(of: Plan, rows: list[Row]) -> str | None:
    if not of.with_codes:
        return None
    codes = [row.codes.ravel() for row in rows if row.codes is not None]
    whole = np.concatenate([np.zeros(0, np.int64), *codes])
    return pack_histogram(np.bincount(whole, minlength=of.tokenizer.codebook_size))


def _moments(of: Plan, rows: list[Row]) -> Moments | None:
    if not of.with_latents:
        return None
    there = [row.latents for row in rows if row.latents is not None]
    return Moments.of(there, of.tokenizer.latent_channels)

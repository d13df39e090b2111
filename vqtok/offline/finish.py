"""The end of a job: all shards are there, so manifest and card are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqtok.errors import LoadError
from vqtok.offline.check import leftovers, problems
from vqtok.offline.leases import clear
from vqtok.offline.ledger import read_plan, read_records
from vqtok.offline.manifest import MANIFEST, Manifest, manifest_of
from vqtok.offline.records import DONE, Record
from vqtok.offline.store import Store
from vqtok.offline.tokens_card import card_of

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = ["CARD", "finalize"]

CARD = "README.md"


def finalize(store: Store, full: bool = False) -> Manifest:
    """Writes manifest.json and README.md of a data set whose shards are all done.

    Several may do so at once, and again: they write the same bytes. What killed workers left is
    taken away. A README.md that somebody has edited stays. A LoadError names the shard where
    something is missing or wrong.

    full  compare every file's sha256, and not only its size
    """
    plan = read_plan(store)
    while True:  # a retry may come to its end meanwhile, and its manifest is the newer one
        before = store.list(DONE)
        manifest = _written(store, plan, read_records(store), full)
        if store.list(DONE) == before:
            return manifest


def _written(store: Store, plan: Plan, records: Sequence[Record], full: bool) -> Manifest:
    wrong = problems(store, plan, records, full)
    if wrong:
        raise LoadError(f"'{store.url}' is not whole: {'; '.join(wrong[:3])}{_more(wrong[3:])}")
    for name in leftovers(store, records):
        store.delete(name)
    clear(store)
    store.sweep()
    manifest = manifest_of(plan, records)
    if _is_ours(store, plan):
        _write(store, CARD, card_of(plan, manifest))
    _write(store, MANIFEST, manifest.to_bytes())
    return manifest


def _is_ours(store: Store, plan: Plan) -> bool:
    """Whether README.md is not there, or is what the manifest that is there had come to."""
    if not store.exists(CARD):
        return True
    if not store.exists(MANIFEST):
        return False
    try:
        there = Manifest.from_bytes(store.get(MANIFEST), MANIFEST)
    except LoadError:
        return False
    return store.get(CARD) == card_of(plan, there)


def _more(rest: list[str]) -> str:
    return f"; and {len(rest)} more problems" if rest else ""


def _write(store: Store, name: str, data: bytes) -> None:
    if not (store.exists(name) and store.get(name) == data):
        store.put(name, data)

"""What a finished data set says of itself: a function of its plan and records, and nothing else."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from vqtok.offline.ledger import failures
from vqtok.offline.moments import Moments
from vqtok.offline.records import MOST_LABELS, File, Record, class_order, stem, unpack_histogram
from vqtok.offline.stored import Stored

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan

__all__ = ["MANIFEST", "CodeUse", "LatentStats", "Manifest", "Part", "manifest_of"]

MANIFEST = "manifest.json"
PLACES = 6  # of logarithms, whose last bits differ between machines


class Part(Stored):
    """A record of rows that are there, as far as readers need it."""

    shard: int
    attempt: int
    rows: int
    failed: int
    codes_sha256: str
    files: list[File]


class CodeUse(Stored):
    """How the codebook is used by the rows of the set.

    size               codes there are
    used               codes that come at least once
    entropy            in bits a code; a model that only knows how often codes come needs as many
    most_common_share  of all codes, those that are the most common one
    """

    size: int
    used: int
    entropy: float
    most_common_share: float


class LatentStats(Stored):
    """Of all stored values; readers give (latents - shift_factor) * scaling_factor.

    count        values of each channel
    mean, std    by channel
    """

    count: int
    mean: list[float]
    std: list[float]
    shift_factor: float
    scaling_factor: float | None


class Manifest(Stored):
    """All of a data set, in `manifest.json`.

    plan            the plan's hash
    dataset_sha256  over the plan's hash and the hashes of all files, shard by shard
    planned         rows; `rows + failed` is as many
    failed          rows that are missing after all retries, and how many by stage
    labels          how often each comes; None where there are 10,000 or more
    classes         the labels as `class_order` has them; None as above, [] without labels
    """

    version: Literal["vqtok-tokens/1"] = Field(default="vqtok-tokens/1", alias="schema")
    plan: str
    dataset_sha256: str
    shards: int
    planned: int
    rows: int
    failed: int
    failed_by_stage: dict[str, int]
    bytes: int
    codes: CodeUse | None
    latents: LatentStats | None
    labels: dict[str, int] | None
    classes: list[str] | None
    parts: list[Part]


def manifest_of(plan: Plan, records: Sequence[Record]) -> Manifest:
    """Of a finished set; `records` are all, by shard and attempt.

    A retry that mended nothing leaves the data set as it was.
    """
    parts = [record for record in records if record.rows or not record.attempt]
    missing = [failure for lost in failures(records).values() for failure in lost]
    stages = Counter[str]()
    for failure in missing:
        stages[failure.stage] += failure.rows
    labels = _labels(records)
    return Manifest(
        plan=plan.hash,
        dataset_sha256=_hash(plan, parts),
        shards=plan.shards,
        planned=sum(plan.planned(shard) for shard in range(plan.shards)),
        rows=sum(record.rows for record in records),
        failed=sum(stages.values()),
        failed_by_stage=dict(sorted(stages.items())),
        bytes=sum(file.bytes for record in parts for file in record.files),
        codes=_code_use(records),
        latents=_latent_stats(records),
        labels=labels,
        classes=None if labels is None else class_order(labels),
        parts=[_part(record) for record in parts],
    )


def _part(record: Record) -> Part:
    return Part(
        shard=record.shard,
        attempt=record.attempt,
        rows=record.rows,
        failed=record.lost,
        codes_sha256=record.codes_sha256,
        files=record.files,
    )


def _hash(plan: Plan, records: Sequence[Record]) -> str:
    digest = hashlib.sha256(f"{plan.hash}\n".encode())
    for record in records:
        hashes = " ".join(file.sha256 for file in record.files)
        digest.update(f"{stem(record.shard, record.attempt)} {hashes}\n".encode())
    return digest.hexdigest()


def _code_use(records: Sequence[Record]) -> CodeUse | None:
    packed = [record.histogram for record in records]
    if None in packed or not packed:
        return None
    total = sum(unpack_histogram(each) for each in packed if each is not None)
    counts = np.asarray(total)
    whole = int(counts.sum())
    shares = [count / whole for count in counts.tolist() if count]
    return CodeUse(
        size=len(counts),
        used=len(shares),
        entropy=round(-math.fsum(share * math.log2(share) for share in shares) + 0.0, PLACES),
        most_common_share=round(max(shares, default=0.0), PLACES),
    )


def _latent_stats(records: Sequence[Record]) -> LatentStats | None:
    parts = [record.moments for record in records if record.moments is not None]
    merged = Moments.of_all(parts)
    spread = None if merged is None else merged.spread()
    if merged is None or spread is None:
        return None
    return LatentStats(
        count=merged.count,
        mean=spread.mean,
        std=spread.std,
        shift_factor=spread.shift,
        scaling_factor=spread.scaling,
    )


def _labels(records: Sequence[Record]) -> dict[str, int] | None:
    counts = Counter[str]()
    for record in records:
        if len(record.labels) >= MOST_LABELS:
            return None
        counts.update(record.labels)
    return dict(counts) if len(counts) < MOST_LABELS else None

"""A worker of shards without pictures or a model: codes are random numbers, by the sample."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import token_rows

from vqtok.errors import MismatchError
from vqtok.offline.commit import commit
from vqtok.offline.formats import FORMATS
from vqtok.offline.job import Beat, Job, SourceSpec
from vqtok.offline.ledger import PLAN
from vqtok.offline.plan import Plan
from vqtok.offline.records import (
    Failure,
    Made,
    Record,
    Timing,
    count_labels,
    describe,
    pack_histogram,
    sha256,
    stem,
)
from vqtok.offline.rows import Rows
from vqtok.offline.store import Store, open_store


def plan_of(samples: int = 20, shard_size: int = 4, **changes: Any) -> Plan:
    keys = [f"k{index}" for index in range(samples)]
    return token_rows.plan(keys, shard_size=shard_size, **changes)


def job_of(out: str | Path, plan: Plan | None = None, **changes: Any) -> Job:
    """A job whose plan is written; settings of the worker beside those of `Job`.

    pause   seconds before every sample
    broken  samples that fail in the first attempt
    refuse, raise, kill  shards where it raises a MismatchError, a ValueError, or is killed
    tint    added to all labels, as a machine might that computes otherwise
    """
    plan = plan or plan_of()
    names = ("pause", "broken", "refuse", "raise", "kill", "tint")
    settings = {name: changes.pop(name) for name in names if name in changes}
    open_store(str(out), create=True).put_if_absent(PLAN, plan.to_bytes())
    source = SourceSpec((json.dumps(settings),))
    return Job(out=str(out), source=source, load=no_tokenizer, plan=plan, **changes)


def no_tokenizer(device: str) -> Any:
    raise AssertionError("a toy needs no tokenizer")


class ToyWorker:
    def __init__(self, job: Job, device: str) -> None:
        self.job, self.device = job, device
        self.store: Store = open_store(job.out)
        self._writing = ThreadPoolExecutor(1)
        self._last: Future[str] | None = None
        self.settings: dict[str, Any] = json.loads(job.source.paths[0])

    def make(self, shard: int, beat: Beat) -> Made:
        began = time.time()
        self._misbehave(shard)
        plan, attempt = self.job.plan, self.job.attempt
        broken = self.settings.get("broken", [])
        samples = plan.range(shard)
        wanted = [i for i in samples if not attempt or i in broken]
        failed = [
            Failure(key=f"k{i}", index=i, rows=1, stage="read", reason="it is broken")
            for i in wanted
            if not attempt and i in broken
        ]
        lost = {failure.index for failure in failed}
        rows = []
        for number, index in enumerate(wanted):
            beat(min(number, 1))
            time.sleep(self.settings.get("pause", 0))
            if index not in lost:
                rows.append(token_rows.row(f"k{index}", plan, index))
        return self._made(shard, Rows.of(rows), failed, len(wanted), began)

    def run(self, shard: int, beat: Beat) -> str:
        return commit(self.store, self.job.plan, self.make(shard, beat))

    def start(self, shard: int, beat: Beat) -> Future[str]:
        made = self.make(shard, beat)
        if self._last is not None:
            self._last.result()
        self._last = self._writing.submit(commit, self.store, self.job.plan, made)
        return self._last

    def close(self) -> None:
        self._writing.shutdown()

    def _misbehave(self, shard: int) -> None:
        if shard in self.settings.get("refuse", []):
            raise MismatchError("this is not what was planned: seed: planned 0, now 1")
        if shard in self.settings.get("raise", []):
            raise ValueError("a bug")
        if shard in self.settings.get("kill", []):
            os.kill(os.getpid(), signal.SIGKILL)

    def _made(
        self, shard: int, rows: Rows, failed: list[Failure], planned: int, began: float
    ) -> Made:
        plan, attempt = self.job.plan, self.job.attempt
        if "tint" in self.settings and isinstance(rows.codes, np.ndarray):
            rows.codes[0, 0] = self.settings["tint"]
        files = FORMATS[plan.format].write(rows, plan, stem(shard, attempt))
        codes = np.asarray([] if rows.codes is None else rows.codes, plan.dtype)
        counts = np.bincount(codes.reshape(-1), minlength=plan.tokenizer.codebook_size)
        record = Record(
            shard=shard,
            attempt=attempt,
            plan=plan.hash,
            planned=planned,
            rows=len(rows),
            failed=failed,
            files=describe(files),
            codes_sha256=sha256(codes.tobytes()),
            histogram=pack_histogram(counts),
            labels=count_labels(rows.labels),
            moments=None,
        )
        timing = Timing(
            shard=shard,
            attempt=attempt,
            rows=len(rows),
            failed=record.lost,
            seconds=time.time() - began,
            waits={"decode": 0.0},
            host="here",
            pid=os.getpid(),
            device=self.device,
            finished=time.time(),
        )
        return Made(shard, attempt, files, record, timing)


def never(rows: int = 0) -> None:
    """A beat of somebody without a lease."""


def contents(out: Path) -> dict[str, bytes]:
    """All files of a finished data set, but for what says who made it when."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not {"timings", "claims"} & set(path.relative_to(out).parts)
    }

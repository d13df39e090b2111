"""Who makes shards: `Worker.make` is the shard function, the same bytes whoever calls it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from vqtok.errors import LoadError, MismatchError
from vqtok.offline.commit import Outcome, commit
from vqtok.offline.formats import FORMATS
from vqtok.offline.gather import Gathered, code_figures, moments_of
from vqtok.offline.job import Beat, Job, SourceSpec
from vqtok.offline.ledger import record_name
from vqtok.offline.pipeline import Pipeline, Waits
from vqtok.offline.plan import ClipPlan, Plan, differences, plan_with
from vqtok.offline.records import Made, Record, Timing, count_labels, describe, stem
from vqtok.offline.store import Store, open_store
from vqtok.sources import Source, open_source
from vqtok.sources.spans import Spans
from vqtok.tokenizer import VisualTokenizer

__all__ = ["Worker", "check_planned", "open_spec", "source_of"]


class Worker:
    """Makes shards of a job on one device; to be closed, or used in a `with`."""

    def __init__(self, job: Job, device: str) -> None:
        self.job = job
        self.plan: Plan = job.plan
        self.device = device
        self.store: Store = open_store(job.out)
        FORMATS[self.plan.format].check(self.plan)
        source, tok = source_of(job), job.load(device)
        check_planned(self.plan, source, tok)
        self.probe = tok.codec.verify()
        self._pipeline = Pipeline(source, tok, self.plan, job.decoders, job.decode_in)
        self._writing = ThreadPoolExecutor(1, "vqtok-write")
        self._last: Future[Outcome] | None = None

    def make(self, shard: int, beat: Beat) -> Made:
        """The shard's bytes and record: a function of the plan and the source alone.

        In a retry, those of the samples that failed in the attempt before.
        """
        began = time.perf_counter()
        gathered, planned, waits = self._gathered(shard, beat)
        return self._finished(shard, gathered, planned, waits, began)

    def run(self, shard: int, beat: Beat) -> Outcome:
        """Makes it and commits it: "won", "lost" or "differs"."""
        return self.start(shard, beat).result()

    def start(self, shard: int, beat: Beat) -> Future[Outcome]:
        """Makes it; it is written and committed while the next one may be started.

        An error in writing is raised by the next `start`, and by the result.
        """
        began = time.perf_counter()
        gathered, planned, waits = self._gathered(shard, beat)
        if self._last is not None:
            self._last.result()

        def write() -> Outcome:
            made = self._finished(shard, gathered, planned, waits, began)
            return commit(self.store, self.plan, made)

        self._last = self._writing.submit(write)
        return self._last

    def close(self) -> None:
        """Ends threads and processes, once what was started is written."""
        self._writing.shutdown()
        self._pipeline.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------

    def _gathered(self, shard: int, beat: Beat) -> tuple[Gathered, int, Waits]:
        """Its rows, how many were planned, and who waited for whom."""
        waits = Waits()
        samples = self.plan.range(shard)
        wanted = self._wanted(shard, samples)
        gathered = self._pipeline.run(samples, wanted, beat, waits)
        if not (self.job.all_may_fail or self.job.attempt):
            self._pipeline.check_source(shard, gathered)
        return gathered, len(wanted) * len(self.plan.view_names), waits

    def _wanted(self, shard: int, samples: range) -> Sequence[int]:
        if not self.job.attempt:
            return samples
        name = record_name(shard, self.job.attempt - 1)
        before = Record.from_bytes(self.store.get(name), f"{self.store.url}/{name}")
        return [failure.index for failure in before.failed]

    def _finished(
        self, shard: int, gathered: Gathered, planned: int, waits: Waits, began: float
    ) -> Made:
        plan, attempt = self.plan, self.job.attempt
        rows = gathered.rows()
        write = time.perf_counter()
        files = FORMATS[plan.format].write(rows, plan, stem(shard, attempt))
        figures = code_figures(rows.codes, plan.tokenizer.codebook_size)
        record = Record(
            shard=shard,
            attempt=attempt,
            plan=plan.hash,
            planned=planned,
            rows=len(rows),
            failed=gathered.failures,
            files=describe(files),
            codes_sha256=figures.sha256,
            histogram=figures.histogram if plan.with_codes else None,
            labels=count_labels(rows.labels),
            moments=moments_of(rows.latents, plan.tokenizer.latent_channels or 0)
            if plan.with_latents
            else None,
        )
        waits.write = time.perf_counter() - write
        return Made(shard, attempt, files, record, self._timing(record, waits, began))

    def _timing(self, record: Record, waits: Waits, began: float) -> Timing:
        return Timing(
            shard=record.shard,
            attempt=record.attempt,
            rows=record.rows,
            failed=record.lost,
            seconds=round(time.perf_counter() - began, 3),
            waits=waits.as_dict(),
            host=socket.gethostname(),
            pid=os.getpid(),
            device=self.device,
            finished=round(time.time(), 3),
        )


def source_of(job: Job) -> Source:
    """The source of a job, which may have been opened already."""
    if job.opened is not None:
        return job.opened
    return open_spec(job.source, job.plan.source.clips)


def open_spec(spec: SourceSpec, clips: ClipPlan | None = None) -> Source:
    """A source, its videos cut as `clips` has it; `LoadError` where no clip is left."""
    source = open_source(list(spec.paths), spec.kind)
    if clips is None:
        return source
    spans = Spans(source, clips.frames, clips.stride, clips.every, clips.scenes)
    if not len(spans):
        raise LoadError(f"no clip can be cut: {spans.note or 'no video has a frame'}")
    return spans


def check_planned(plan: Plan, source: Source, tok: VisualTokenizer) -> None:
    """`MismatchError` where source, tokenizer or preprocessing are not those of the plan."""
    found = differences(plan, plan_with(plan, source, tok))
    if found:
        raise MismatchError(f"this is not what was planned: {'; '.join(found)}")

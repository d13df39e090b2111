"""What `vqtok tokenize` and `vqtok retry-failed` show of a job: how it goes, and how it ended."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from vqtok.commands.bar import Bar, state
from vqtok.commands.figures import duration, failed_lines, size_of, waits_of
from vqtok.commands.progress import say
from vqtok.errors import InputError, plural
from vqtok.offline.job import Job
from vqtok.offline.jobs import MaxFailed, carry_out
from vqtok.offline.launch import Launch
from vqtok.offline.ledger import done, failures, read_records
from vqtok.offline.manifest import Manifest
from vqtok.offline.plan import Plan
from vqtok.offline.progress import Progress, allowed
from vqtok.offline.store import open_store

__all__ = ["duration", "failed_lines", "go", "shown", "size_of", "waits_of"]

INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended
LINES_EVERY = 10.0  # seconds, where there is no terminal


def go(job: Job, launch: Launch, max_failed: MaxFailed, *, again: str, as_json: bool) -> int:
    """Carries a job out, prints what came of it, and returns the exit status.

    again  the command that goes on with it
    """
    total = sum(map(job.plan.planned, range(job.plan.shards)))
    limit = allowed(max_failed, total)
    try:
        with shown(job, speaks=launch.leads) as watch:
            manifest = carry_out(job, launch, max_failed=max_failed, watch=watch)
    except KeyboardInterrupt:
        there = len(done(open_store(job.out), job.attempt))
        if launch.leads:
            of = f"{there} of {job.plan.shards} shards"
            say(f"stopped; {of} are there. {again} goes on from there")
        return INTERRUPTED
    except InputError as error:
        if limit is None or _lost(job.out) <= limit:
            raise
        say(str(error))
        return 1
    if launch.leads:
        typer.echo(_json(manifest) if as_json else "\n".join(_summary(job, manifest)))
    within = manifest.rows > 0 and (limit is None or manifest.failed <= limit)
    if launch.leads and not manifest.rows:
        say("not one row could be made")
    return 0 if within else 1


def _lost(out: str) -> int:
    missing = failures(read_records(open_store(out)))
    return sum(failure.rows for lost in missing.values() for failure in lost)


# --- while it runs --------------------------------------------------------------------------------


@contextmanager
def shown(job: Job, *, speaks: bool) -> Iterator[Callable[[Progress], None]]:
    """Gives what is called after each shard: a bar at a terminal, else a line now and then."""
    label = "retry" if job.attempt else "tokenize"
    if not speaks:
        yield lambda progress: None
    elif sys.stderr.isatty():
        try:
            yield Bar(label)
        finally:
            sys.stderr.write("\r\x1b[K")
    else:
        yield _Lines(label)


class _Lines:
    """A line of standard error every ten seconds."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= LINES_EVERY:
            self._last = now
            say(f"{self._label}: {state(progress, progress.speed)}")


# --- when it is done ------------------------------------------------------------------------------


def _json(manifest: Manifest) -> str:
    told = manifest.model_dump(mode="json", by_alias=True, exclude={"parts", "labels"})
    return json.dumps(told, indent=2)


def _summary(job: Job, manifest: Manifest) -> list[str]:
    plan, out = job.plan, shlex.quote(job.out)
    lines = [f"{job.out}: {_what(plan, manifest)}"]
    if manifest.failed:
        lines += failed_lines(read_records(open_store(job.out)), manifest.planned)
        which = "  all of them" if manifest.rows else "next"
        lines.append(f"{which}: vqtok status {out} --failed; once mended: vqtok retry-failed {out}")
    if not manifest.rows:
        return lines
    if manifest.codes is not None:
        use = manifest.codes
        lines.append(
            f"codes: {use.used:,} of {use.size:,} in use, entropy {use.entropy:.3f} bits, the most "
            f"common one {use.most_common_share:.1%} of all"
        )
    if manifest.latents is not None:
        lines.append(
            f"latents: shift_factor {manifest.latents.shift_factor}, "
            f"scaling_factor {manifest.latents.scaling_factor}"
        )
    lines.append(f"data set: sha256 {manifest.dataset_sha256}")
    lines.append(f"next: vqtok inspect {out} -o sheet.png; in Python: open_tokens({job.out!r})")
    return lines


def _what(plan: Plan, manifest: Manifest) -> str:
    views = len(plan.view_names)
    of = f" of {plan.source.samples:,} samples" + (f" in {views} views" if views > 1 else "")
    rows, shards = plural(manifest.rows, "row"), plural(plan.shards, "shard")
    return f"{rows}{of}, {shards}, {size_of(manifest.bytes)} of {plan.format}"

"""Whether a process that comes late is to try once more what its launch has tried already.

Processes of one launch of `retry-failed` (a job array, say, some of whose jobs start hours after
the others) work on one attempt together. Whoever starts when that is over finds samples that have
failed again, which is no reason to begin another attempt for every job of the array.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from vqtok.offline.ledger import read_timings
from vqtok.offline.records import TIMINGS
from vqtok.offline.store import Store

__all__ = ["has_tried"]

BEGAN = time.time()


def has_tried(store: Store, attempt: int, environ: Mapping[str, str]) -> bool:
    """Whether the launch of this process has done the attempt before this one; notes this one.

    It is known by the number of its job array or of its step. Elsewhere, an attempt whose end came
    after the beginning of this process counts as its own.
    """
    launch = _launch(environ)
    if launch is None:
        ends = [each.finished for each in read_timings(store) if each.attempt == attempt - 1]
        return attempt > 1 and max(ends, default=0.0) > BEGAN
    before = f"{TIMINGS}launch.{attempt - 1}"
    if attempt > 1 and store.exists(before) and store.get(before) == launch:
        return True
    store.put_if_absent(f"{TIMINGS}launch.{attempt}", launch)
    return False


def _launch(environ: Mapping[str, str]) -> bytes | None:
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"array {environ['SLURM_ARRAY_JOB_ID']}".encode()
    if "SLURM_JOB_ID" in environ and "SLURM_STEP_ID" in environ:
        return f"step {environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}".encode()
    return None

"""Whoever comes late does not try once more what its launch has tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from offline_toys import ToyWorker, job_of, never

from vqtok.offline import retries
from vqtok.offline.retries import has_tried
from vqtok.offline.store import open_store


def test_jobs_of_an_array_try_once(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    first, second = {"SLURM_ARRAY_JOB_ID": "17"}, {"SLURM_ARRAY_JOB_ID": "18"}
    assert not has_tried(store, 1, first)
    assert not has_tried(store, 1, first), "they work on one attempt together"
    assert has_tried(store, 2, first)
    assert not has_tried(store, 2, second)
    assert not has_tried(store, 3, first)
    assert has_tried(store, 3, second)


def test_so_do_steps(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    steps = [{"SLURM_JOB_ID": "17", "SLURM_STEP_ID": str(step)} for step in range(2)]
    assert not has_tried(store, 1, steps[0])
    assert has_tried(store, 2, steps[0])
    assert not has_tried(store, 2, steps[1])


def test_elsewhere_time_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path, broken=[5])
    store = open_store(job.out)
    for attempt in range(2):
        ToyWorker(job_of(tmp_path, broken=[5], attempt=attempt), "cpu").run(1, never)
    assert not has_tried(store, 1, {})
    assert has_tried(store, 2, {})
    monkeypatch.setattr(retries, "BEGAN", retries.BEGAN + 1e6)
    assert not has_tried(store, 2, {})

"""What whoever started a job sees, and anybody else."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from offline_toys import ToyWorker, job_of, never, plan_of

from vqtok.errors import ConfigError, InputError
from vqtok.offline import progress as module
from vqtok.offline.finish import finalize
from vqtok.offline.leases import Leases
from vqtok.offline.ledger import read_records, read_timing
from vqtok.offline.progress import Progress, allowed
from vqtok.offline.records import Record, Timing
from vqtok.offline.status import status
from vqtok.offline.store import open_store


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (None, None),
        ("1%", 10),
        ("0.25%", 2),
        (0.01, 10),
        ("0.01", 10),
        (0, 0),
        ("7", 7),
        ("29%", 290),
        (0.29, 290),
        (1e-05, 0),
        ("2e-2", 20),
        (1.0, 1000),
    ],
)
def test_what_may_fail(given: Any, rows: int | None) -> None:
    assert allowed(given, 1000) == rows


@pytest.mark.parametrize("given", ["many", "-1", "1.5", "101%", ""])
def test_what_cannot_be_allowed(given: str) -> None:
    with pytest.raises(ConfigError) as error:
        allowed(given, 1000)
    assert str(error.value) == (
        f"max_failed is a number of rows such as 10, or a share such as 1%; got {given!r}"
    )


def shard(tmp_path: Path, number: int, **changes: Any) -> tuple[Record, Timing]:
    made = ToyWorker(job_of(tmp_path, **changes), "cpu").make(number, never)
    assert made.timing is not None
    timing = made.timing.model_copy(update={"seconds": 10.0, "waits": {"decode": 4.0}})
    return made.record, timing


def test_progress_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    told = []
    before, _ = shard(tmp_path, 0)
    progress = Progress(plan_of(), [before], told=lambda p: told.append((p.rows, p.lost)))
    assert (progress.planned, progress.rows, progress.speed) == (20, 4, None)
    clock[0] += 2
    progress(*shard(tmp_path, 1, broken=[5]))
    assert told == [(7, 1)]
    assert (progress.shards, progress.speed, progress.seconds_left) == (1, 2.0, 6.0)
    assert progress.wait_shares == {"decode": 0.4}
    clock[0] += 1000
    assert progress.speed is None
    progress(shard(tmp_path, 2)[0], None)
    assert progress.speed == 4 / 1000, "shards that take longer than the window are spread over it"
    assert progress.failed == {"read": 1}


def test_rows_under_way_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    told: list[int] = []
    progress = Progress(plan_of(), told=lambda p: told.append(p.reached))
    for rows in (0, 2, 3):
        progress.working(1, rows)
        clock[0] += 1
    progress.working(2, 1)
    assert told == [2, 3, 4]
    assert (progress.rows, progress.reached, progress.speed) == (0, 4, 3 / 3)
    assert progress.seconds_left == 16
    progress(*shard(tmp_path, 1))
    assert (progress.rows, progress.reached) == (4, 5)


def test_too_many_failures_stop_it(tmp_path: Path) -> None:
    progress = Progress(plan_of(), limit=1)
    progress(*shard(tmp_path, 1, broken=[5]))
    with pytest.raises(InputError) as error:
        progress(*shard(tmp_path, 2, broken=[9]))
    assert str(error.value) == (
        "2 of 20 rows have failed, and max_failed allows 1; first: 'k5' (read: it is broken); 'k9' "
        "(read: it is broken). What is done stays: allow more and run it again to go on; "
        "retry-failed makes up for those that can be read later"
    )


def test_failures_of_an_earlier_run_count(tmp_path: Path) -> None:
    before, _ = shard(tmp_path, 1, broken=[5])
    with pytest.raises(InputError):
        Progress(plan_of(), [before], limit=0).check()


# --- status ---------------------------------------------------------------------------------------


def test_status_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    job = job_of(tmp_path, broken=[5])
    store, worker = open_store(job.out), ToyWorker(job, "cpu")
    fresh = status(store)
    assert (fresh.done, fresh.left, fresh.planned, fresh.rows) == (0, 5, 20, 0)
    assert (fresh.speed, fresh.seconds_left, fresh.complete) == (None, None, False)
    for number in (0, 1):
        worker.run(number, never)
        timing = read_timing(store, number, 0)
        assert timing is not None
        changes = {"finished": 1000.0 + 10 * number, "seconds": 10.0, "waits": {"decode": 5.0}}
        store.put(f"timings/0000{number}.json", timing.model_copy(update=changes).to_bytes())
    leases = Leases(store, 60)
    leases.take(3)
    running = status(store, now=1030.0)
    assert (running.done, running.left, running.rows, running.lost) == (2, 2, 7, 1)
    assert running.failed == {"read": 1}
    assert running.speed == 8 / 40
    assert running.seconds_left == 12 / running.speed
    assert running.waits == {"decode": 0.5}
    (working,) = running.working
    assert (working.shard, working.attempt, working.slow) == (3, 0, False)
    assert status(store).stragglers == []
    since = [w.seconds for w in status(store, now=2e10).stragglers]
    assert len(since) == 1
    assert since[0] > 1e9
    for number in (2, 3, 4):
        worker.run(number, never)
    leases.release(3)
    finalize(store)
    end = status(store, now=1e12)
    assert (end.done, end.left, end.working, end.complete) == (5, 0, [], True)
    assert end.speed is None


def test_status_of_a_retry(tmp_path: Path) -> None:
    job = job_of(tmp_path, broken=[5])
    store = open_store(job.out)
    for number in range(5):
        ToyWorker(job, "cpu").run(number, never)
    again = dataclasses.replace(job, attempt=1)
    Leases(store, 60).take(1, 1)
    during = status(store)
    assert (during.left, during.done, len(during.working)) == (0, 5, 1)
    ToyWorker(again, "cpu").run(1, never)
    after = status(store)
    assert (after.rows, after.lost, after.working, len(read_records(store))) == (20, 0, [], 6)


def test_status_of_a_folder_that_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)
    Leases(open_store(job.out), 60).take(1)

    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    (working,) = status(open_store(job.out)).working
    assert (working.shard, working.pid) == (1, os.getpid())


def test_status_names_shards_that_came_out_differently(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    ToyWorker(job, "cpu").run(1, never)
    ToyWorker(job_of(tmp_path, tint=63), "cpu").run(1, never)
    assert status(open_store(job.out)).differing == [1]


def test_timings_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    store = open_store(job.out)
    ToyWorker(job, "cpu").run(1, never)
    store.put("timings/00001.json", b"{")
    assert status(store).speed is None

"""Every engine makes the same data set, whatever becomes of its workers."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from offline_toys import ToyWorker, contents, job_of, never, plan_of

from vqtok.errors import ConfigError, InputError, LoadError, MismatchError
from vqtok.offline.check import verify
from vqtok.offline.engines import ENGINES
from vqtok.offline.engines.local import Local
from vqtok.offline.engines.ranks import Place, Ranks, order_of, place_of
from vqtok.offline.finish import finalize
from vqtok.offline.job import Beat, Job
from vqtok.offline.leases import claims
from vqtok.offline.ledger import read_records
from vqtok.offline.progress import Progress
from vqtok.offline.records import Made, Record, Timing
from vqtok.offline.store import open_store


class Seen:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.shards: list[int] = []

    def __call__(self, record: Record, timing: Timing | None) -> None:
        self.shards.append(record.shard)


def finished(job: Job) -> dict[str, bytes]:
    """Finalizes; the contents."""
    finalize(open_store(job.out), full=True)
    assert verify(open_store(job.out), full=True) == []
    return contents(Path(job.out))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes."""
    job = job_of(tmp_path_factory.mktemp("reference"), broken=[5])
    Local(making=ToyWorker).run(job, range(5), Seen())
    return finished(job)


def test_engines_are_registered() -> None:
    assert {"local", "ranks"} <= set(ENGINES)


def test_two_processes_make_the_same_bytes(tmp_path: Path, reference: dict[str, bytes]) -> None:
    job, seen = job_of(tmp_path, broken=[5]), Seen()
    Local(processes=2, making=ToyWorker).run(job, range(5), seen)
    assert sorted(seen.shards) == [0, 1, 2, 3, 4]
    assert finished(job) == reference
    assert len(reference) == 2 * 5 + 3


def test_two_ranks_make_the_same_bytes(tmp_path: Path, reference: dict[str, bytes]) -> None:
    job, seen = job_of(tmp_path, broken=[5], pause=0.01), [Seen(), Seen()]
    engines = [Ranks(rank=f"{rank}/2", making=ToyWorker) for rank in range(2)]
    threads = [
        threading.Thread(target=engine.run, args=(job, range(5), watch))
        for engine, watch in zip(engines, seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(each.shards) for each in seen] == [[0, 1, 2, 3, 4]] * 2
    assert finished(job) == reference


def test_a_store_without_leases(reference: dict[str, bytes]) -> None:
    job = job_of("memory://engine-test", broken=[5])
    Local(making=ToyWorker).run(job, range(5), Seen())
    store = open_store(job.out)
    finalize(store)
    assert {name: store.get(name) for name in reference} == reference


def test_a_job_goes_on_where_it_was(tmp_path: Path, reference: dict[str, bytes]) -> None:
    job = job_of(tmp_path, broken=[5])
    Local(making=ToyWorker).run(job, [1, 3], Seen())
    Local(processes=2, making=ToyWorker).run(job, range(5), Seen())
    assert finished(job) == reference


def test_nothing_to_do(tmp_path: Path) -> None:
    Local(processes=2, making=ToyWorker).run(job_of(tmp_path), [], Seen())


def test_the_users_error_ends_a_run(tmp_path: Path) -> None:
    job = job_of(tmp_path, refuse=[2])
    with pytest.raises(MismatchError) as error:
        Local(processes=2, making=ToyWorker).run(job, range(5), Seen())
    assert str(error.value) == "this is not what was planned: seed: planned 0, now 1"
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("kill", "it was ended by SIGKILL, as systems do that run out of memory"),
        ("raise", "ValueError: a bug"),
    ],
)
def test_a_shard_that_costs_three_workers(
    tmp_path: Path, fate: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    job = job_of(tmp_path, **{fate: [1]})
    with pytest.raises(LoadError) as error:
        Local(processes=2, making=ToyWorker).run(job, range(5), Seen())
    assert str(error.value) == (
        f"shard 1, samples 4 to 7, has ended its worker 3 times; the last time: {reason}. All "
        "other shards are done; "
        "where a file brings decoders down, --decode-in processes lists it"
    )
    assert [record.shard for record in read_records(open_store(job.out))] == [0, 2, 3, 4]
    assert not list((tmp_path / "claims").iterdir())


def stillborn(job: Job, device: str) -> ToyWorker:
    raise AssertionError("no shard is asked for before it is ready")


class Deadly:
    """Ends the process that it arrives in."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (3,)


def test_workers_that_do_not_start(tmp_path: Path) -> None:
    job = dataclasses.replace(job_of(tmp_path), load=Deadly())
    with pytest.raises(LoadError) as error:
        Local(processes=2, making=stillborn).run(job, range(5), Seen())
    assert str(error.value) == "workers end before they have begun: it ended with exit status 3"


def test_a_watch_that_has_seen_enough(tmp_path: Path) -> None:
    job = job_of(tmp_path, broken=[0, 1, 2, 3])
    watch = Progress(job.plan, limit=3)
    with pytest.raises(InputError) as error:
        Local(processes=2, making=ToyWorker).run(job, range(5), watch)
    assert str(error.value).endswith(
        "of 20 rows have failed, and max_failed allows 3; first: 'k0' (read: it is broken); 'k1' "
        "(read: it is broken); 'k2' (read: it is broken). What is done stays: allow more and run "
        "it again to go on; retry-failed makes up for those that can be read later"
    )
    assert multiprocessing.active_children() == []


def test_a_disk_that_runs_full(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, and when there is room, it goes on."""
    job = job_of(tmp_path, broken=[5])
    sync, calls = os.fsync, []

    def fills_up(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        with pytest.raises(LoadError) as error:
            Local(making=ToyWorker).run(job, range(5), Seen())
    assert str(error.value).endswith(
        "cannot be written: No space left on device; make room and run it again: what is done stays"
    )
    assert claims(open_store(job.out)) == []
    assert 0 < len(read_records(open_store(job.out))) < 5
    Local(making=ToyWorker).run(job, range(5), Seen())
    assert finished(job) == reference


def test_no_processes() -> None:
    with pytest.raises(ConfigError) as error:
        Local(processes=0)
    assert str(error.value) == "processes is a whole number, at least 1; got 0"


def lone(job: Job, device: str) -> ToyWorker:
    raise AssertionError("not needed")


def test_a_worker_is_made_when_it_is_needed(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    Local(making=ToyWorker).run(job, range(5), Seen())
    Local(making=lone).run(job, range(5), Seen())


def test_retries(tmp_path: Path) -> None:
    job = job_of(tmp_path, broken=[5, 6, 9])
    Local(making=ToyWorker).run(job, range(5), Seen())
    first = finalize(open_store(job.out))
    again = job_of(tmp_path, broken=[5, 6, 9], attempt=1)
    seen = Seen()
    Local(processes=2, making=ToyWorker).run(again, [1, 2], seen)
    assert sorted(seen.shards) == [1, 2]
    second = finalize(open_store(job.out))
    assert (first.rows, first.failed, second.rows, second.failed) == (17, 3, 20, 0)
    assert [(part.shard, part.attempt) for part in second.parts] == [
        *[(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (4, 0)],
    ]


class Slow(ToyWorker):
    """Gives its only sign of life when it is through, long after its lease has run out."""

    made: ClassVar[list[int]] = []

    def make(self, shard: int, beat: Beat) -> Made:
        time.sleep(0.5)
        self.made.append(shard)
        beat()
        return super().make(shard, beat)


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_shards_that_take_longer_than_a_lease_come_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(Slow, "made", [])
    out = str(tmp_path) if place == "folder" else "memory://slow"
    job = job_of(out, plan_of(4, 4), lease=0.3)
    engines = [Ranks(rank=f"{rank}/3", making=Slow) for rank in range(3)]
    threads = [
        threading.Thread(target=engine.run, args=(job, [0], Seen()), daemon=True)
        for engine in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert 1 <= len(Slow.made) <= 3
    assert [record.shard for record in read_records(open_store(out))] == [0]


def test_a_shard_that_others_have_done_is_given_up(tmp_path: Path) -> None:
    job, made = job_of("memory://given-up", lease=0.04), []

    class Second(ToyWorker):
        def make(self, shard: int, beat: Beat) -> Made:
            ToyWorker(self.job, "cpu").run(shard, never)
            time.sleep(0.02)
            beat()
            made.append(shard)
            return super().make(shard, beat)

    seen = Seen()
    Ranks(rank="0/1", making=Second).run(job, range(5), seen)
    assert sorted(seen.shards) == [0, 1, 2, 3, 4]
    assert made == []


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_are_told_of_while_a_shard_is_made(tmp_path: Path, processes: int) -> None:
    class Watching(Seen):
        def __init__(self) -> None:
            super().__init__()
            self.under_way: list[tuple[int, int]] = []

        def working(self, shard: int, rows: int) -> None:
            self.under_way.append((shard, rows))

    watch = Watching()
    job = job_of(tmp_path, plan_of(8, 4), pause=0.05, lease=0.2)
    Local(processes=processes, making=ToyWorker).run(job, range(2), watch)
    assert {0, 1} == {shard for shard, _ in watch.under_way}
    assert {rows for _, rows in watch.under_way} <= {0, 1, 2, 3, 4}
    assert max(rows for _, rows in watch.under_way) > 0


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "rank", "place"),
    [
        ({}, "2/8", Place(2, 8, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, None, Place(3, 4, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "0/1", Place(0, 1, 0)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}, None, Place(5, 8, 1)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "12",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            None,
            Place(2, 3, 0),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "2",
            },
            None,
            Place(5, 8, 0),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "3",
                "SLURM_ARRAY_TASK_MAX": "7",
                "SLURM_ARRAY_TASK_COUNT": "2",
            },
            None,
            Place(4, 5, 0),
        ),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"}, None, Place(1, 2, 0)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "4"}, None, Place(1, 4, 0)),
        (
            {
                "RANK": "3",
                "WORLD_SIZE": "4",
                "LOCAL_RANK": "3",
                "SLURM_ARRAY_TASK_ID": "2",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            None,
            Place(11, 12, 3),
        ),
    ],
)
def test_the_environment_tells_the_place(
    environ: dict[str, str], rank: str | None, place: Place
) -> None:
    assert place_of(environ, rank) == place


@pytest.mark.parametrize(
    ("environ", "rank", "message"),
    [
        (
            {},
            None,
            "the engine 'ranks' is started by torchrun, accelerate, srun or a job array, or is "
            "told its place with rank, such as 0/8",
        ),
        ({}, "2", "rank is a number and how many there are, such as 0/8; got '2'"),
        ({}, "-1/8", "rank is a number and how many there are, such as 0/8; got '-1/8'"),
        ({}, "8/8", "there is no process 8 of 8; the first is 0"),
        (
            {"RANK": "4", "WORLD_SIZE": "4"},
            None,
            "there is no process 4 of 4; the first is 0",
        ),
        (
            {"RANK": "x", "WORLD_SIZE": "4"},
            None,
            "the environment's RANK is a whole number; got 'x'",
        ),
    ],
)
def test_places_that_cannot_be(environ: dict[str, str], rank: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        place_of(environ, rank)
    assert str(error.value) == message


@pytest.mark.parametrize("todo", [range(7), [4, 9, 2]])
def test_slices_cover_all_and_others_come_last(todo: Sequence[int]) -> None:
    orders = [order_of(todo, Place(rank, 3, 0)) for rank in range(3)]
    assert all(sorted(order) == sorted(todo) for order in orders)
    for rank, order in enumerate(orders):
        own = [shard for shard in todo if shard % 3 == rank]
        assert order[: len(own)] == own
    assert orders == [order_of(todo, Place(rank, 3, 0)) for rank in range(3)]


def test_others_shards_are_tried_in_different_orders() -> None:
    orders = {tuple(order_of([0, 8, 16, 24, 32], Place(rank, 8, 0))) for rank in range(1, 8)}
    assert len(orders) > 4

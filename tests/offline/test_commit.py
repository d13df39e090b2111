"""A shard is done by whoever writes its record first."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from offline_toys import ToyWorker, job_of, never, plan_of

from vqtok.errors import LoadError
from vqtok.offline import commit as commits
from vqtok.offline.check import verify
from vqtok.offline.commit import commit
from vqtok.offline.finish import finalize
from vqtok.offline.job import Job
from vqtok.offline.ledger import read_records, read_timing
from vqtok.offline.records import Made, Record
from vqtok.offline.store import Store, open_store


@pytest.fixture(params=["folder", "memory"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = f"memory://{request.node.name}"
    return str(tmp_path) if request.param == "folder" else url


def made(job: Job, shard: int = 1) -> Made:
    return ToyWorker(job, "cpu").make(shard, never)


def other(out: str, **changes: int) -> Made:
    """What a machine makes of the same shard that computes otherwise."""
    return made(job_of(out, tint=63, **changes))


def test_the_first_wins_and_the_second_loses(out: str) -> None:
    job, store = job_of(out), open_store(out)
    first = made(job)
    assert commit(store, job.plan, first) == "won"
    assert commit(store, job.plan, made(job)) == "lost"
    assert store.get("shards/00001.parquet") == first.files["00001.parquet"]
    assert store.get("done/00001.json") == first.record.to_bytes()
    assert read_timing(store, 1, 0) == first.timing


def test_another_outcome_loses_and_is_said(out: str, caplog: pytest.LogCaptureFixture) -> None:
    job, store = job_of(out), open_store(out)
    first = made(job)
    commit(store, job.plan, first)
    with caplog.at_level(logging.WARNING):
        assert commit(store, job.plan, other(out)) == "differs"
    assert caplog.messages == [
        "shard 1: 1 of 4 rows came out other than those of the worker that was first; its rows stay"
    ]
    assert store.list("shards/") == ["shards/00001.parquet"]
    assert store.get("shards/00001.parquet") == first.files["00001.parquet"]
    timing = read_timing(store, 1, 0)
    assert timing is not None
    assert timing.differs == 1
    assert first.timing is not None
    assert timing.seconds == first.timing.seconds


def test_data_of_somebody_who_died_is_gone_round(out: str) -> None:
    """Other bytes lie under the name, and no record names them."""
    job, store = job_of(out), open_store(out)
    left, mine = other(out), made(job)
    store.put("shards/00001.parquet", left.files["00001.parquet"])
    assert commit(store, job.plan, mine) == "won"
    (record,) = read_records(store)
    (file,) = record.files
    assert file.name == f"00001-{file.sha256[:12]}.parquet"
    assert store.get(f"shards/{file.name}") == mine.files["00001.parquet"]
    finish_others(job)
    finalize(store, full=True)
    assert len(store.list("shards/")) == 5
    assert verify(store, full=True) == []


def finish_others(job: Job) -> None:
    worker = ToyWorker(job, "cpu")
    for shard in set(range(job.plan.shards)) - {1}:
        worker.run(shard, never)


def test_equal_data_of_somebody_who_died_is_taken(out: str) -> None:
    job, store = job_of(out), open_store(out)
    mine = made(job)
    store.put("shards/00001.parquet", mine.files["00001.parquet"])
    assert commit(store, job.plan, mine) == "won"
    assert store.list("shards/") == ["shards/00001.parquet"]


def test_who_loses_between_data_and_record_takes_its_data_away(
    out: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job, store = job_of(out), open_store(out)
    late, first = other(out), made(job)
    put, calls = commits._put, []

    def slowly(store: Store, made: Made, file: object) -> object:
        """The other commits just before this one's data is written."""
        if not calls:
            calls.append(made)
            commit(store, job.plan, first)
        return put(store, made, file)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "_put", slowly)
    assert commit(store, job.plan, late) == "differs"
    assert store.list("shards/") == ["shards/00001.parquet"]


def test_many_at_once(tmp_path: Path) -> None:
    job, store = job_of(tmp_path), open_store(str(tmp_path))
    each, start = made(job), threading.Barrier(6)
    outcomes: list[str] = []

    def run() -> None:
        start.wait()
        outcomes.append(commit(store, job.plan, each))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 5 + ["won"]


def test_a_full_disk_leaves_a_shard_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, store = job_of(tmp_path), open_store(str(tmp_path))
    real = store.put_if_absent

    def full(name: str, data: bytes) -> bool:
        if name.startswith("done/"):
            raise LoadError(f"'{name}' cannot be written: No space left on device")
        return real(name, data)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put_if_absent", full)
        with pytest.raises(LoadError):
            commit(store, job.plan, made(job))
    assert read_records(store) == []
    assert commit(store, job.plan, made(job)) == "won"


def test_rows_that_cannot_be_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job, store = job_of(tmp_path), open_store(str(tmp_path))
    commit(store, job.plan, made(job))
    store.delete("shards/00001.parquet")
    store.put("shards/00001.parquet", b"")
    with caplog.at_level(logging.WARNING):
        assert commit(store, job.plan, other(str(tmp_path))) == "differs"
    assert caplog.messages == [
        "shard 1: an unknown number of 4 rows came out other than those of the worker that was "
        "first; its rows stay"
    ]


def test_a_shard_without_rows(out: str) -> None:
    plan = plan_of(4, 4)
    job, store = job_of(out, plan, broken=[0, 1, 2, 3]), open_store(out)
    assert commit(store, plan, made(job, 0)) == "won"
    manifest = finalize(store, full=True)
    assert (manifest.rows, manifest.failed, manifest.failed_by_stage) == (0, 4, {"read": 4})
    assert manifest.codes is not None
    assert (manifest.codes.used, manifest.codes.entropy) == (0, 0.0)


def test_records_are_the_same_bytes_again(out: str) -> None:
    record = made(job_of(out, broken=[5])).record
    assert Record.from_bytes(record.to_bytes(), "x") == record


def test_data_has_names_of_its_bytes_where_two_can_be_first(tmp_path: Path) -> None:
    job = job_of(f"local://{tmp_path}/out")
    store = open_store(job.out)
    mine, theirs = made(job), other(job.out)
    for each in (mine, theirs):
        file = commits._put(store, each, each.record.files[0])
        assert store.get(f"shards/{file.name}") == each.files["00001.parquet"]
    assert len(store.list("shards/")) == 2
    assert commit(store, job.plan, theirs) == "won"
    assert commit(store, job.plan, mine) == "differs"
    assert len(store.list("shards/")) == 2, "another record may still come to name them"
    finish_others(job)
    finalize(store, full=True)
    assert verify(store, full=True) == []
    assert len(store.list("shards/")) == 5


def test_a_retry_that_mends_nothing_has_no_data(out: str) -> None:
    job, store = job_of(out, broken=[5]), open_store(out)
    commit(store, job.plan, made(job))
    again = made(job_of(out, broken=[5], attempt=1))
    nothing = again.record.model_copy(update={"rows": 0})
    assert commit(store, job.plan, again._replace(record=nothing)) == "won"
    assert store.list("shards/") == ["shards/00001.parquet"]
    assert [len(record.files) for record in read_records(store)] == [1, 0]


def test_a_name_of_a_hash_with_other_bytes(out: str) -> None:
    job, store = job_of(out), open_store(out)
    mine = made(job)
    own = f"00001-{mine.record.files[0].sha256[:12]}.parquet"
    for name in ("00001.parquet", own):
        store.put(f"shards/{name}", b"other")
    with pytest.raises(LoadError) as error:
        commit(store, job.plan, mine)
    assert str(error.value) == (
        f"'{store.url}/shards/{own}' holds other bytes than those whose hash it is named by; "
        "delete it and run it again"
    )

"""What workers do on a node, and how many of them may die. Ray isn't needed for this."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from offline_toys import ToyWorker, job_of, plan_of

from vqtok.errors import LoadError, MismatchError
from vqtok.offline.engines.deaths import Deaths
from vqtok.offline.engines.ray_worker import REACH, RayWorker
from vqtok.offline.job import Job, Making
from vqtok.offline.ledger import PLAN, read_records
from vqtok.offline.store import open_store

HERE = f"on node '{socket.gethostname()}': "


@pytest.fixture(autouse=True)
def _stays_in_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield


def worker(job: Job, making: Making = ToyWorker, here: str = ".") -> RayWorker:
    return RayWorker(pickle.dumps((job, making)), here)


def refused(said: tuple[str, Any]) -> Any:
    word, error = said
    assert word == "refused"
    return error


def test_a_seat_makes_shards(tmp_path: Path) -> None:
    one = worker(job_of(tmp_path))
    assert one.ready() == ("ready", socket.gethostname())
    assert one.far() is None
    assert [one.one(shard) for shard in (2, 0)] == [("done", None)] * 2
    assert one.one(2) == ("held", None)
    assert one.far() == (0, 3)
    assert [record.shard for record in read_records(open_store(str(tmp_path)))] == [0, 2]


def test_names_are_relative_to_where_the_job_was_started(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    job_of(tmp_path / "there" / "out", plan := plan_of())
    job = Job("out", job_of(tmp_path / "other").source, pickle.dumps, plan)
    assert worker(job, here=str(tmp_path / "there")).ready()[0] == "ready"


def test_no_store_on_this_node(tmp_path: Path) -> None:
    job = job_of(tmp_path / "out")
    (tmp_path / "out" / PLAN).unlink()
    assert str(refused(worker(job).ready())) == (
        f"{HERE}'{tmp_path / 'out'}' holds no plan.json: it is no data set of tokens. {REACH}"
    )


def test_another_store_of_that_name_on_this_node(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    (tmp_path / PLAN).write_bytes(plan_of(samples=8).to_bytes())
    error = refused(worker(job).ready())
    assert type(error) is LoadError
    assert str(error) == (
        f"{HERE}'{tmp_path}' holds another plan than where the job was started. {REACH}"
    )


def test_code_that_is_not_on_this_node(tmp_path: Path) -> None:
    packed = pickle.dumps((job_of(tmp_path), ToyWorker)).replace(b"offline_toys", b"offline_gone")
    assert str(refused(RayWorker(packed, ".").ready())) == (
        f"{HERE}No module named 'offline_gone'. What the job is made of has to be installed on "
        "every node"
    )


def sourceless(job: Job, device: str) -> ToyWorker:
    raise LoadError("there is no file or folder 'photos'")


def test_a_source_that_is_not_on_this_node(tmp_path: Path) -> None:
    one = worker(job_of(tmp_path), sourceless)
    one.ready()
    assert str(refused(one.one(0))) == f"{HERE}there is no file or folder 'photos'. {REACH}"


def test_what_is_wrong_with_a_job_is_told_as_it_is(tmp_path: Path) -> None:
    one = worker(job_of(tmp_path, refuse=[1], **{"raise": [2]}))
    one.ready()
    error = refused(one.one(1))
    assert type(error) is MismatchError
    assert str(error) == "this is not what was planned: seed: planned 0, now 1"
    assert one.one(2) == ("crashed", "ValueError: a bug")


def test_a_shard_is_lost_with_its_third_worker() -> None:
    deaths = Deaths(plan_of())
    for shard in (1, 3, 1, None, 3, None, 1):
        deaths.count(shard, f"over {shard}")
    assert deaths.lost == {1}
    deaths.settle([3])
    deaths.count(3, "again")
    with pytest.raises(LoadError) as error:
        deaths.settle([1, 3])
    assert str(error.value) == (
        "shard 1, samples 4 to 7, has ended its worker 3 times (so have shards 3); the last time: "
        "over 1. All other shards are done; where a file brings decoders down, --decode-in "
        "processes lists it"
    )


def test_workers_that_never_begin() -> None:
    deaths = Deaths(plan_of())
    deaths.count(None, "first")
    deaths.count(None, "second")
    with pytest.raises(LoadError) as error:
        deaths.count(None, "no memory")
    assert str(error.value) == "workers end before they have begun: no memory"

"""The engine "ray" makes the same data set, whatever becomes of its workers and nodes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from offline_toys import ToyWorker, contents, job_of, plan_of

from vqtok.errors import ConfigError, LoadError, MismatchError, MissingExtraError
from vqtok.offline.engines import ENGINES, deaths
from vqtok.offline.engines import ray as engine
from vqtok.offline.engines.local import Local
from vqtok.offline.engines.ray import Needs, Ray, places
from vqtok.offline.finish import finalize
from vqtok.offline.job import Beat, Job
from vqtok.offline.ledger import read_records
from vqtok.offline.records import Record, Timing
from vqtok.offline.store import open_store

TESTS = str(Path(__file__).parents[2])
# Ray leaves sockets and processes to their end, and its own deprecations to later.
pytestmark = pytest.mark.filterwarnings("ignore")


def seen(record: Record, timing: Timing | None) -> None:
    """Nobody watches."""


def finished(job: Job) -> dict[str, bytes]:
    """Finalizes; the contents."""
    finalize(open_store(job.out), full=True)
    return contents(Path(job.out))


def undisturbed(folder: Path, **job: Any) -> dict[str, bytes]:
    """What one process makes."""
    one = job_of(folder, **job)
    Local(making=ToyWorker).run(one, range(one.plan.shards), seen)
    return finished(one)


def settle(patch: pytest.MonkeyPatch) -> None:
    """What Ray is to find in the environment."""
    patch.setenv("PYTHONPATH", TESTS)
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, whose workers find the toys."""
    found = pytest.importorskip("ray", reason="ray is not installed: it comes with vqtok[ray]")
    with pytest.MonkeyPatch.context() as patch:
        settle(patch)
        found.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False)
        yield found
        found.shutdown()


# --- without Ray ----------------------------------------------------------------------------------


def test_it_is_registered() -> None:
    assert ENGINES["ray"] is Ray


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as error:
        Ray()
    assert str(error.value) == (
        "the engine 'ray' runs with ray, which is not installed: pip install 'vqtok[ray]'"
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Could not find any\nrunning Ray instance", "Could not find any running Ray instance"),
        ("", "ConnectionError"),
    ],
)
def test_there_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, shown: str
) -> None:
    def init(address: str, **settings: Any) -> None:
        raise ConnectionError(said)

    ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(LoadError) as error:
        Ray(making=ToyWorker).run(job_of(tmp_path), range(5), seen)
    assert str(error.value) == (
        f"there is no Ray cluster to be reached at 'auto': {shown}. Start one with `ray start "
        "--head`, give its address, or 'local' for this machine alone"
    )


def test_nobody_answers_at_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(is_initialized=lambda: False, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(LoadError) as error:
        Ray(address="127.0.0.1:1", making=ToyWorker).run(job_of(tmp_path), range(5), seen)
    assert str(error.value) == (
        "there is no Ray cluster to be reached at '127.0.0.1:1': [Errno 111] Connection refused. "
        "Start one with `ray start --head`, give its address, or 'local' for this machine alone"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actors": 0}, "actors is a whole number, at least 1; got 0"),
        ({"gpus": 2}, "gpus of a worker is 1, a share such as 0.5, or 0; got 2"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Ray(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("nodes", "needs", "count"),
    [
        ([{"CPU": 8}, {"CPU": 2}, {"CPU": 64}], Needs(3, 0), 2),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 64, "GPU": 8}], Needs(3, 1), 10),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 64}], Needs(2, 0.5), 2),
        ([{"memory": 1}], Needs(1, 0), 0),
    ],
)
def test_how_many_workers_a_cluster_gets(
    nodes: list[dict[str, float]], needs: Needs, count: int
) -> None:
    assert places([{"Resources": node} for node in nodes], needs) == count


# --- one machine ----------------------------------------------------------------------------------


class Seen:
    """A watch that keeps what it is told, and lets a worker go on that waits to be seen."""

    def __init__(self, note: Path) -> None:
        self.note = note
        self.shards: list[int] = []
        self.under_way: list[tuple[int, int]] = []

    def __call__(self, record: Record, timing: Timing | None) -> None:
        self.shards.append(record.shard)

    def working(self, shard: int, rows: int) -> None:
        self.under_way.append((shard, rows))
        if shard == 1:
            self.note.unlink(missing_ok=True)


class Seeable(ToyWorker):
    """Has one row of shard 1, and goes on when that has been seen."""

    def start(self, shard: int, beat: Beat) -> Future[str]:
        if shard == 1:
            beat(1)
            note, end = Path(self.job.out).with_suffix(".unseen"), time.monotonic() + 20
            while note.exists() and time.monotonic() < end:
                time.sleep(0.05)
        return super().start(shard, beat)


def test_two_actors_make_the_same_bytes(
    tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK", 0.2)
    seen = Seen(tmp_path / "ray.unseen")
    seen.note.touch()
    job = job_of(tmp_path / "ray", broken=[5])
    Ray(actors=2, making=Seeable).run(job, range(5), seen)
    assert sorted(seen.shards) == [0, 1, 2, 3, 4]
    assert (1, 1) in seen.under_way
    assert finished(job) == undisturbed(tmp_path / "one", broken=[5])
    assert ray.is_initialized()


def test_nothing_to_do(tmp_path: Path, ray: Any) -> None:
    Ray(making=ToyWorker).run(job_of(tmp_path), [], seen)


def test_the_users_error_ends_a_job(tmp_path: Path, ray: Any) -> None:
    with pytest.raises(MismatchError) as error:
        Ray(actors=1, making=ToyWorker).run(job_of(tmp_path, refuse=[2]), [2, 0], seen)
    assert str(error.value) == "this is not what was planned: seed: planned 0, now 1"


def test_a_shard_that_costs_workers(
    tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "LIVES", 2)  # each worker that starts takes seconds
    job = job_of(tmp_path, **{"raise": [1]})
    with pytest.raises(LoadError) as error:
        Ray(actors=1, making=ToyWorker).run(job, range(3), seen)
    assert str(error.value) == (
        "shard 1, samples 4 to 7, has ended its worker 2 times; the last time: ValueError: a bug. "
        "All other shards are done; where a file brings decoders down, --decode-in processes lists "
        "it"
    )
    assert [record.shard for record in read_records(open_store(job.out))] == [0, 2]


class Mishaps(ToyWorker):
    """Something happens to the first worker that makes shard 1: see the file `mishap`."""

    def start(self, shard: int, beat: Beat) -> Future[str]:
        note = Path(self.job.out).with_suffix(".mishap")
        mishap = ""
        if shard == 1 and note.exists():
            mishap = note.read_text()
            note.unlink()
        if mishap in ("SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), signal.Signals[mishap])
        writing = super().start(shard, beat)
        if mishap == "hang":
            writing.result()
            time.sleep(1000)
        return writing


@pytest.mark.parametrize("mishap", ["SIGKILL", "SIGSTOP", "hang"])
def test_a_worker_that_dies_or_is_silent(
    tmp_path: Path, ray: Any, mishap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK", 0.5)
    monkeypatch.setattr(engine, "GRACE", 0.2)
    (tmp_path / "ray.mishap").write_text(mishap)
    job = job_of(tmp_path / "ray", lease=1.0)
    # One that hangs is replaced, so one is enough; one that is stopped needs somebody beside it.
    Ray(actors=2 if mishap == "SIGSTOP" else 1, making=Mishaps).run(job, range(5), seen)
    assert not (tmp_path / "ray.mishap").exists()
    assert finished(job) == undisturbed(tmp_path / "one")


def test_no_node_is_large_enough(
    tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "LOOK", 0.2)
    node = socket.gethostname()
    job = job_of(tmp_path, decoders=31)
    with pytest.raises(LoadError) as error:
        Ray(gpus=0.5, wait=0.5, making=ToyWorker).run(job, range(5), seen)
    asked = "each asks for 32 CPUs and 0.5 GPUs of one node (a CPU for each decoder, and one)"
    assert str(error.value) == (
        f"no node of the Ray cluster has room for a worker: {asked}, and the cluster has '{node}' "
        "with 6 CPUs and 0 GPUs. Ask for fewer decoders or a smaller share of a GPU, or add nodes"
    )
    assert caplog.messages == [f"no node of the Ray cluster has room for a worker; {asked}"]


@pytest.mark.parametrize(
    ("gpus", "why"), [(None, "the Ray cluster has no GPU"), (0, "gpus=0 gives it none")]
)
def test_no_gpus(tmp_path: Path, ray: Any, gpus: float | None, why: str) -> None:
    job = job_of(tmp_path, device="cuda")
    with pytest.raises(ConfigError) as error:
        Ray(gpus=gpus, making=ToyWorker).run(job, range(5), seen)
    assert str(error.value) == f"a job for the device 'cuda' needs GPUs, and {why}"


# --- clusters -------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray, not running in this process: what comes here has no more use for `ray`."""
    found = pytest.importorskip("ray", reason="ray is not installed: it comes with vqtok[ray]")
    found.shutdown()
    settle(monkeypatch)
    yield found
    found.shutdown()


@pytest.mark.slow
def test_a_cluster_of_its_own(tmp_path: Path, alone: Any) -> None:
    job = job_of(tmp_path / "ray")
    Ray(address=None, making=ToyWorker).run(job, range(5), seen)
    assert not alone.is_initialized()
    assert finished(job) == undisturbed(tmp_path / "one")


@pytest.mark.slow
def test_a_node_goes_in_the_middle(tmp_path: Path, alone: Any) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=3) for _ in range(2)]
    cluster.wait_for_nodes()
    going: list[threading.Thread] = []
    job = job_of(tmp_path / "ray", plan_of(80, 4), pause=0.1, broken=[5], lease=2.0)

    def watch(record: Record, timing: Timing | None) -> None:
        if not going and len(read_records(open_store(job.out))) >= 3:
            going.append(threading.Thread(target=cluster.remove_node, args=(nodes.pop(), False)))
            going[0].start()

    try:
        Ray(address=cluster.address, making=ToyWorker).run(job, range(20), watch)
    finally:
        for each in going:
            each.join()
        cluster.shutdown()
    assert len(going) == 1
    assert finished(job) == undisturbed(tmp_path / "one", plan=plan_of(80, 4), broken=[5])

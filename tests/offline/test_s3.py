"""A whole data set in an object store, as a server of moto's plays it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from offline_toys import ToyWorker, job_of

from vqtok.errors import LoadError
from vqtok.offline.check import verify
from vqtok.offline.engines.local import Local
from vqtok.offline.engines.ranks import Ranks
from vqtok.offline.finish import finalize
from vqtok.offline.records import Record, Timing
from vqtok.offline.remote import RemoteStore
from vqtok.offline.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")  # clients are kept, with the address of their server
def bucket() -> Iterator[str]:
    server = pytest.importorskip("moto.server", reason="pip install s3fs 'moto[server]'")
    pytest.importorskip("s3fs", reason="pip install s3fs 'moto[server]'")
    import boto3

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="a-bucket")
        yield "s3://a-bucket"
    running.stop()


def unseen(record: Record, timing: Timing | None) -> None: ...


def test_who_is_first_stays(bucket: str) -> None:
    store = open_store(f"{bucket}/été.v1", create=True)
    assert isinstance(store, RemoteStore)
    assert store.put_if_absent("done/0 ü.json", b"first")
    assert not store.put_if_absent("done/0 ü.json", b"second")
    # Past the look that it takes beforehand, the server itself refuses.
    with pytest.raises(FileExistsError):
        store._files.pipe_file(store._path("done/0 ü.json"), b"second", **store._absent)
    assert store.get("done/0 ü.json") == b"first"
    assert store.list("done/") == ["done/0 ü.json"]
    with pytest.raises(LoadError) as error:
        open_store("s3://no-bucket/x", create=True).put("plan.json", b"")
    assert str(error.value) == "'s3://no-bucket/x/plan.json' cannot be written: it is not there"


def test_a_job_is_the_same_from_one_and_two(bucket: str) -> None:
    one, two = (job_of(f"{bucket}/{name}", broken=[5]) for name in ("one", "two"))
    Local(making=ToyWorker).run(one, range(5), unseen)
    ranks = [Ranks(rank=f"{rank}/2", making=ToyWorker) for rank in range(2)]
    threads = [threading.Thread(target=rank.run, args=(two, range(5), unseen)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manifests = [finalize(open_store(job.out), full=True) for job in (one, two)]
    assert manifests[0] == manifests[1]
    assert verify(open_store(two.out), full=True) == []


def test_two_processes(bucket: str) -> None:
    job = job_of(f"{bucket}/processes", broken=[5])
    Local(processes=2, making=ToyWorker).run(job, range(5), unseen)
    assert finalize(open_store(job.out), full=True).rows == 19

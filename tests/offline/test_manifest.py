"""The end of a job: what is checked, and what is written."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from offline_toys import ToyWorker, contents, job_of, never, plan_of

from vqtok.errors import LoadError
from vqtok.offline import finish
from vqtok.offline.check import verify
from vqtok.offline.finish import finalize
from vqtok.offline.folder import FolderStore
from vqtok.offline.job import Job
from vqtok.offline.ledger import failures, next_attempt, read_plan, read_records, todo
from vqtok.offline.manifest import Manifest, manifest_of
from vqtok.offline.moments import Moments
from vqtok.offline.plan import Plan
from vqtok.offline.records import Record, class_order, pack_histogram
from vqtok.offline.store import open_store
from vqtok.offline.tokens_card import card_of


def run(job: Job, shards: range | list[int] = range(5)) -> FolderStore:
    worker = ToyWorker(job, "cpu")
    for shard in shards:
        worker.run(shard, never)
    return FolderStore(Path(job.out))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """All done, and nothing written at the end."""
    return run(job_of(tmp_path, broken=[5]))


def test_a_manifest_says_it_all(store: FolderStore) -> None:
    manifest = finalize(store)
    plan = read_plan(store)
    assert (manifest.planned, manifest.rows, manifest.failed) == (20, 19, 1)
    assert manifest.failed_by_stage == {"read": 1}
    assert manifest.plan == plan.hash
    assert manifest.shards == 5
    assert manifest.bytes == sum((store.local(n)).stat().st_size for n in store.list("shards/"))
    assert manifest.classes == [str(n) for n in range(20) if n != 5]
    assert manifest.labels == {str(n): 1 for n in range(20) if n != 5}
    assert manifest.codes is not None
    assert manifest.codes.size == 64
    assert 5 < manifest.codes.entropy <= 6
    assert manifest.latents is None
    assert Manifest.from_bytes(store.get("manifest.json"), "manifest.json") == manifest


def test_it_may_be_written_again_and_at_once(store: FolderStore) -> None:
    first = finalize(store)
    before = contents(Path(store.url))
    time = store.local("manifest.json").stat().st_mtime_ns
    threads = [threading.Thread(target=finalize, args=(store,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finalize(store, full=True) == first
    assert contents(Path(store.url)) == before
    assert store.local("manifest.json").stat().st_mtime_ns == time


def test_the_hash_is_that_of_plan_and_files(tmp_path: Path) -> None:
    jobs = [job_of(tmp_path / "a"), job_of(tmp_path / "b"), job_of(tmp_path / "c", tint=1)]
    jobs.append(job_of(tmp_path / "d", plan_of(seed=1)))
    hashes = [finalize(run(job)).dataset_sha256 for job in jobs]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_what_killed_workers_left_is_taken_away(store: FolderStore) -> None:
    for name in ("shards/00002-0123456789ab.parquet", "shards/.00001.parquet.7.ab.part"):
        store.put(name, b"left")
    store.put("claims/00003", b"left")
    store.put("shards/00001_1.parquet", b"of a retry that has no record yet")
    finalize(store)
    left = sorted(path.name for path in Path(store.url).rglob("*") if b"left" in data(path))
    assert left == []
    assert verify(store) == ["'shards/00001_1.parquet' is named by no record"]


def data(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


# --- what is wrong --------------------------------------------------------------------------------


def test_shards_that_are_not_done(tmp_path: Path) -> None:
    store = run(job_of(tmp_path), [1, 3])
    with pytest.raises(LoadError) as error:
        finalize(store)
    assert str(error.value) == f"'{tmp_path}' is not whole: 3 of 5 shards are not done: 0, 2, 4"
    assert verify(store) == ["3 of 5 shards are not done: 0, 2, 4"]


def flip(store: FolderStore) -> None:
    path = store.local("shards/00003.parquet")
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


def change(**fields: object) -> Callable[[FolderStore], None]:
    def rewrite(store: FolderStore) -> None:
        record = Record.from_bytes(store.get("done/00003.json"), "x")
        store.put("done/00003.json", record.model_copy(update=fields).to_bytes())

    return rewrite


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda s: s.delete("shards/00003.parquet"), "'shards/00003.parquet' is missing"),
        (
            lambda s: s.put("shards/00003.parquet", b"abc"),
            "'shards/00003.parquet' has 3 bytes; the record says {size}",
        ),
        (flip, "'shards/00003.parquet' holds other bytes than were written"),
        (change(plan="0" * 64), "it was made after another plan, 0000000000000000"),
        (
            change(rows=3),
            "4 rows were planned; the record says 4, with 3 there and 0 failed",
        ),
        (
            change(planned=5),
            "4 rows were planned; the record says 5, with 4 there and 0 failed",
        ),
    ],
)
def test_damage_is_named(
    store: FolderStore, damage: Callable[[FolderStore], None], problem: str
) -> None:
    finalize(store)
    size = store.size("shards/00003.parquet")
    damage(store)
    expected = "shard 3: " + problem.format(size=size)
    assert verify(store, full=True) == [expected]
    with pytest.raises(LoadError) as error:
        finalize(store, full=True)
    assert str(error.value) == f"'{store.url}' is not whole: {expected}"


def test_a_flipped_bit_costs_a_full_reading(store: FolderStore) -> None:
    finalize(store)
    flip(store)
    assert verify(store) == []


def test_many_problems_are_counted(store: FolderStore) -> None:
    for name in store.list("shards/"):
        store.delete(name)
    with pytest.raises(LoadError) as error:
        finalize(store)
    assert str(error.value) == (
        f"'{store.url}' is not whole: shard 0: 'shards/00000.parquet' is missing; shard 1: "
        "'shards/00001.parquet' is missing; shard 2: 'shards/00002.parquet' is missing; and 2 more "
        "problems"
    )


def test_files_that_no_record_names(store: FolderStore) -> None:
    finalize(store)
    store.put("shards/00001-0123456789ab.parquet", b"x")
    assert verify(store) == ["'shards/00001-0123456789ab.parquet' is named by no record"]


def test_the_manifest_itself(store: FolderStore) -> None:
    assert verify(store) == [
        "there is no 'manifest.json': all is done, but the end was not written"
    ]
    manifest = finalize(store)
    store.put("manifest.json", manifest.model_copy(update={"rows": 7}).to_bytes())
    assert verify(store) == ["'manifest.json' is not that of the records that are there"]
    store.put("manifest.json", b"{}")
    assert verify(store) == ["'manifest.json' is no manifest: plan: Field required"]


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        finalize(open_store(str(tmp_path)))
    assert str(error.value) == f"'{tmp_path}' holds no plan.json: it is no data set of tokens"


# --- retries --------------------------------------------------------------------------------------


def test_retries_are_counted_once(tmp_path: Path) -> None:
    store = run(job_of(tmp_path, broken=[5, 6, 9]))
    plan, records = read_plan(store), read_records(store)
    assert {shard: [f.key for f in lost] for shard, lost in failures(records).items()} == {
        1: ["k5", "k6"],
        2: ["k9"],
    }
    assert next_attempt(records) == 1
    assert todo(plan, records) == []
    assert todo(plan, records, 1) == [1, 2]
    run(job_of(tmp_path, broken=[5, 6, 9], attempt=1), [1])
    records = read_records(store)
    assert next_attempt(records) == 1, "a retry that was broken off goes on"
    assert todo(plan, records, 1) == [2]
    manifest = finalize(store)
    assert (manifest.rows, manifest.failed) == (19, 1)
    assert verify(store, full=True) == []


def test_a_retry_without_its_first_attempt(tmp_path: Path) -> None:
    store = run(job_of(tmp_path, broken=[5]))
    run(job_of(tmp_path, broken=[5], attempt=1), [1])
    store.delete("done/00001.json")
    assert verify(store)[0] == ("shard 1, retry 1: the record of what came before it is missing")


# --- figures --------------------------------------------------------------------------------------


def records(store: FolderStore, **changes: list[object]) -> list[Record]:
    """Those of the store, each with its own of the changes."""
    return [
        record.model_copy(update={name: values[n] for name, values in changes.items()})
        for n, record in enumerate(read_records(store))
    ]


def test_use_of_codes(store: FolderStore) -> None:
    packed = [pack_histogram([1, 0, 0, 0]), pack_histogram([0, 1, 0, 0]), pack_histogram([1] * 4)]
    three = records(store, histogram=[*packed, packed[0], packed[0]])
    use = manifest_of(read_plan(store), three).codes
    assert use is not None
    shares = [4 / 8, 2 / 8, 1 / 8, 1 / 8]
    entropy = -sum(share * math.log2(share) for share in shares)
    assert (use.size, use.used, use.entropy, use.most_common_share) == (4, 4, entropy, 0.5)


def test_too_many_codes_to_count(store: FolderStore) -> None:
    none = records(store, histogram=[None] * 5)
    assert manifest_of(read_plan(store), none).codes is None
    assert pack_histogram([0] * (2**20 + 1)) is None


def test_latents(store: FolderStore) -> None:
    part = Moments(count=2, mean=[0.0, 2.0], m2=[2.0, 2.0])
    stats = manifest_of(read_plan(store), records(store, moments=[part] * 5)).latents
    assert stats is not None
    assert (stats.count, stats.mean, stats.std) == (10, [0.0, 2.0], [1.0, 1.0])
    assert (stats.shift_factor, stats.scaling_factor) == (1.0, 1 / math.sqrt(2))


def test_more_labels_than_classes(store: FolderStore) -> None:
    many = [{f"c{shard} {n}": 1 for n in range(4000)} for shard in range(5)]
    manifest = manifest_of(read_plan(store), records(store, labels=many))
    assert manifest.labels is None
    assert manifest.classes is None


def test_classes_are_in_order(store: FolderStore) -> None:
    labels = [{"10": 1}, {"9": 2}, {"10": 3}, {}, {}]
    numbers = manifest_of(read_plan(store), records(store, labels=labels))
    assert numbers.classes == ["9", "10"]
    assert numbers.labels == {"10": 4, "9": 2}
    texts = manifest_of(plan_of(label="text"), records(store, labels=labels))
    assert texts.classes == ["9", "10"]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "9", "-2", "0"], ["-2", "0", "9", "10"]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["10", "9", "08"], ["08", "10", "9"]),
        (["10", "9", "-0"], ["-0", "10", "9"]),
        (["10", "9", "٣"], ["10", "9", "٣"]),
        ([], []),
    ],
)
def test_names_that_are_numbers_are_in_their_order(names: list[str], ordered: list[str]) -> None:
    assert class_order(names) == ordered


def test_a_card_stands_beside_it(store: FolderStore) -> None:
    manifest = finalize(store)
    assert store.get("README.md") == card_of(read_plan(store), manifest)


# --- at the end -----------------------------------------------------------------------------------


def test_a_retry_that_mends_nothing_leaves_the_data_set_as_it_was(tmp_path: Path) -> None:
    store = run(job_of(tmp_path, broken=[5]))
    before = finalize(store)
    (first,) = [record for record in read_records(store) if record.failed]
    none = {"rows": 0, "files": [], "labels": {}, "histogram": pack_histogram([0] * 64)}
    changes = {"attempt": 1, "planned": 1, **none}
    again = first.model_copy(update=changes)
    store.put(again.name, again.to_bytes())
    assert finalize(store) == before
    assert verify(store, full=True) == []
    assert next_attempt(read_records(store)) == 2


def test_a_retry_that_ends_meanwhile_is_in_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = run(job_of(tmp_path, broken=[5]))
    calls: list[int] = []

    def meanwhile(plan: Plan, records: Sequence[Record]) -> Manifest:
        calls.append(len(records))
        if len(calls) == 1:
            run(job_of(tmp_path, broken=[5], attempt=1), [1])
            finalize(store)
        return manifest_of(plan, records)

    monkeypatch.setattr(finish, "manifest_of", meanwhile)
    assert finalize(store).rows == 20
    assert calls == [5, 6, 6]
    assert verify(store) == []


def test_a_card_that_was_edited_stays(tmp_path: Path) -> None:
    store = run(job_of(tmp_path, broken=[5]))
    store.put("README.md", card_of(read_plan(store), finalize(store)))
    run(job_of(tmp_path, broken=[5], attempt=1), [1])
    manifest = finalize(store)
    assert store.get("README.md") == card_of(read_plan(store), manifest), "it was ours"
    store.put("README.md", b"# My tokens\n")
    store.put("manifest.json", b"{}")
    finalize(store)
    store.delete("manifest.json")
    finalize(store)
    assert store.get("README.md") == b"# My tokens\n"


def test_half_a_record_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = run(job_of(tmp_path))
    whole = store.get("done/00003.json")
    store.put("done/00003.json", whole[:100])
    assert todo(read_plan(store), read_records(store)) == [3]
    assert caplog.messages == [
        f"'{store.url}/done/00003.json' is no whole record: its shard counts as not done; the job "
        "makes it again when it is started again"
    ]
    assert store.exists("done/00003.json")
    assert len(read_records(store, drop_torn=True)) == 4
    assert not store.exists("done/00003.json")
    store.put("done/00003.json", b'{"schema": 2}')
    with pytest.raises(LoadError):
        read_records(store, drop_torn=True)
    assert store.exists("done/00003.json"), "of another version, perhaps"

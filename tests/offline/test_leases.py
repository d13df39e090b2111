"""Leases: one holder at a time, and whoever loses one notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vqtok.offline.folder import FolderStore
from vqtok.offline.leases import LeaseLost, Leases, claims, clear
from vqtok.offline.store import open_store


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def grow_old(store: FolderStore, name: str = "00007", seconds: float = 100.0) -> None:
    path = store.local(f"claims/{name}")
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_shard_is_held_by_one(store: FolderStore) -> None:
    one, other = Leases(store, 60), Leases(store, 60)
    assert one.take(7)
    assert not other.take(7)
    assert other.take(7, 1)
    held = claims(store)
    assert [(claim.shard, claim.attempt, claim.pid) for claim in held] == [
        (7, 0, os.getpid()),
        (7, 1, os.getpid()),
    ]
    assert 0 <= held[0].age < 60
    one.release(7)
    assert other.take(7)


def test_whoever_has_lost_a_stale_lease_goes_on_until_the_shard_is_done(store: FolderStore) -> None:
    slow, quick = Leases(store, 60), Leases(store, 60)
    assert slow.take(7)
    grow_old(store)
    assert quick.take(7)
    for each in (slow, quick):
        each._touched["00007"] = -1e9
        each.beat(7)()
    slow.release(7)
    assert not Leases(store, 60).take(7)
    store.put("done/00007.json", b"{}")
    slow.beat(7)()  # it was a moment ago that it looked
    for each in (slow, quick):
        each._touched["00007"] = -1e9
        with pytest.raises(LeaseLost):
            each.beat(7)()


def test_whoever_took_over_has_twice_as_long_but_not_for_ever(store: FolderStore) -> None:
    assert Leases(store, 60).take(7)
    leases = []
    for _ in range(5):
        leases.append(claims(store)[0].lease)
        grow_old(store, seconds=1000)
        assert Leases(store, 60).take(7)
    assert leases == [60, 120, 240, 480, 480]


def test_time_is_asked_for_where_it_matters(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, idle = Leases(store, 60), Leases(store, 60)
    touched: list[Path] = []
    touch = Path.touch

    def counted(self: Path) -> None:
        touched.append(self)
        touch(self)

    monkeypatch.setattr(Path, "touch", counted)
    for shard in range(20):
        assert one.take(shard)
        one._touched[f"{shard:05d}"] = -1e9
        one.beat(shard)()
    one.bury(0, 0, 1)
    one.release(0)
    assert touched == []
    assert not any(idle.take(shard) for shard in range(1, 20))
    assert len(touched) == 1


def test_a_beat_keeps_a_lease(store: FolderStore) -> None:
    one, other = Leases(store, 60), Leases(store, 60)
    one.take(7)
    grow_old(store)
    one._touched["00007"] = -1e9
    one.beat(7)()
    assert not other.take(7)
    assert claims(store)[0].age < 60


def test_a_beat_is_mostly_free(store: FolderStore) -> None:
    lease = Leases(store, 60)
    lease.take(7)
    store.local("claims/00007").unlink()
    lease.beat(7)()  # it was touched a moment ago, so the file is not looked at


def test_only_one_of_many_takes_over(store: FolderStore) -> None:
    for _ in range(10):
        if not claims(store):
            Leases(store, 60).take(7)
        grow_old(store, seconds=1000)
        start, won = threading.Barrier(6), []

        def run(start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            if Leases(store, 60).take(7):
                won.append(1)

        threads = [threading.Thread(target=run) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


def test_the_lease_of_a_dead_process_of_this_machine_is_free(store: FolderStore) -> None:
    code = (
        "import sys; from pathlib import Path; from vqtok.offline.folder import FolderStore; "
        "from vqtok.offline.leases import Leases; "
        "assert Leases(FolderStore(Path(sys.argv[1])), 60).take(7)"
    )
    subprocess.run([sys.executable, "-c", code, store.url], check=True)
    assert len(claims(store)) == 1
    if not claims(store)[0].space:
        pytest.skip("processes have no space of their own here")
    assert Leases(store, 60).take(7)


def test_the_lease_of_another_machine_is_not(store: FolderStore) -> None:
    Leases(store, 60).take(7)
    path = store.local("claims/00007")
    held = {**json.loads(path.read_bytes()), "space": "elsewhere", "pid": 2**30}
    path.write_text(json.dumps(held))
    assert not Leases(store, 60).take(7)


def test_whoever_died_in_the_door_is_passed(store: FolderStore) -> None:
    Leases(store, 60).take(7)
    (claim,) = claims(store)
    store.put(f"claims/00007.{claim.token}.door", b"")
    grow_old(store)
    assert not Leases(store, 60).take(7)
    grow_old(store, f"00007.{claim.token}.door")
    assert not Leases(store, 60).take(7)
    assert Leases(store, 60).take(7)


def test_the_dead_are_buried(store: FolderStore) -> None:
    Leases(store, 60).take(7)
    Leases(store, 60).bury(7, 0, os.getpid() + 1)
    held = json.loads(store.get("claims/00007"))
    store.put("claims/00007", json.dumps({**held, "space": "another container"}).encode())
    Leases(store, 60).bury(7, 0, os.getpid())
    assert len(claims(store)) == 1
    store.put("claims/00007", json.dumps(held).encode())
    Leases(store, 60).bury(7, 0, os.getpid())
    assert claims(store) == []


def test_a_store_without_leases() -> None:
    store = open_store("memory://leases")
    one, other = Leases(store, 60), Leases(store, 60)
    assert one.take(7)
    assert other.take(7)
    one.beat(7)()
    one.release(7)
    one.bury(7, 0, 1)
    assert claims(store) == []
    clear(store)


def test_claims_are_cleared(store: FolderStore, tmp_path: Path) -> None:
    clear(store)
    Leases(store, 60).take(7)
    clear(store)
    assert not (tmp_path / "claims").exists()

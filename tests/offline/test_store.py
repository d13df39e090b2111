"""Stores: whole files or none, and one who is first."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vqtok.errors import LoadError, MissingExtraError
from vqtok.offline import folder as folders
from vqtok.offline import remote
from vqtok.offline.folder import FolderStore
from vqtok.offline.store import Store, open_store

NAMES = ["plan.json", "done/00000.json", "shards/Grüße, 世界.v1.2 (3).bin"]


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    place = tmp_path / "été.v1"
    urls = {
        "folder": str(place),
        "file": f"file://{place}",
        "memory": f"memory://{tmp_path.name}/{request.node.name}",
    }
    return open_store(urls[request.param], create=True)


@pytest.mark.parametrize("name", NAMES)
def test_who_is_first_stays(store: Store, name: str) -> None:
    assert not store.exists(name)
    assert store.size(name) is None
    assert store.put_if_absent(name, b"first")
    assert not store.put_if_absent(name, b"second")
    assert store.get(name) == b"first"
    assert store.size(name) == 5
    with store.open(name) as file:
        file.seek(2)
        assert file.read() == b"rst"


def test_put_replaces(store: Store) -> None:
    store.put("timings/00000.json", b"one")
    store.put("timings/00000.json", b"two")
    assert store.get("timings/00000.json") == b"two"


def test_lists_are_of_one_folder_and_sorted(store: Store) -> None:
    for name in ("done/b", "done/a", "done/ab", "plan.json", "shards/x"):
        store.put(name, b"")
    assert store.list("done/") == ["done/a", "done/ab", "done/b"]
    assert store.list("done/a") == ["done/a", "done/ab"]
    assert store.list("pl") == ["plan.json"]
    assert store.list("nothing/") == []
    store.delete("done/a")
    store.delete("done/a")
    assert store.list("done/") == ["done/ab", "done/b"]


def test_one_of_many_is_first(store: Store) -> None:
    won: list[tuple[str, int]] = []
    start = threading.Barrier(4)

    def run(number: int) -> None:
        start.wait()
        for name in ("a", "b", "c"):
            if store.put_if_absent(name, b"%d" % number):
                won.append((name, number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if store.local("a") is not None:  # fsspec's memory looks and writes in two steps
        assert sorted(name for name, _ in won) == ["a", "b", "c"]
        assert all(store.get(name) == b"%d" % number for name, number in won)


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(LoadError) as error:
        store.get("done/7.json")
    place = store.local("done/7.json")
    assert str(error.value) == (
        f"'{store.url}/done/7.json' cannot be read: it is not there"
        if place is None
        else f"'{place}' cannot be read: No such file or directory"
    )


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        open_store(str(tmp_path / "none"))
    assert str(error.value) == f"there is no folder '{tmp_path / 'none'}'"


@pytest.mark.parametrize("scheme", ["file://", "FILE://"])
def test_a_folder_by_its_url(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "a b").mkdir()
    assert open_store(f"{scheme}{tmp_path}/a%20b").local("x") == tmp_path / "a b" / "x"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LoadError) as error:
        open_store(str(tmp_path / "file" / "out"), create=True)
    assert str(error.value) == f"'{tmp_path / 'file' / 'out'}' cannot be made: Not a directory"


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(LoadError) as error:
        open_store("nowhere://a/b")
    assert str(error.value) == (
        "'nowhere://a/b' cannot be reached: ValueError: Protocol not known: nowhere"
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["path", "value", "mode"], {"mode": "create"}),
        (["path", "value", "overwrite"], {"overwrite": False}),
        (["path", "value"], {}),
    ],
)
def test_clients_are_told_to_write_what_is_absent(
    settings: list[str], told: dict[str, Any]
) -> None:
    assert remote._absent(settings) == told


def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError) as error:
        open_store("s3://a/b")
    assert str(error.value) == (
        "'s3://a/b' is reached with fsspec, which is not installed: pip install 'vqtok[offline]'"
    )


# --- folders --------------------------------------------------------------------------------------


def no_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.fixture
def linkless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    monkeypatch.setattr(os, "link", no_links)
    return FolderStore(tmp_path)


def test_without_links(linkless: FolderStore, tmp_path: Path) -> None:
    assert linkless.put_if_absent("a", b"first")
    (tmp_path / "b").write_bytes(b"there")
    assert not linkless.put_if_absent("b", b"second")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_without_links_one_of_many_is_first(linkless: FolderStore) -> None:
    test_one_of_many_is_first(linkless)


def test_without_links_whoever_comes_second_waits_and_loses(
    linkless: FolderStore, tmp_path: Path
) -> None:
    """Both find the name free; one has the lock."""
    lock = tmp_path / ".a.lock"
    lock.touch()

    def other() -> None:
        (tmp_path / "a").write_bytes(b"first")
        lock.unlink()

    timer = threading.Timer(0.1, other)
    timer.start()
    assert not linkless.put_if_absent("a", b"second")
    timer.join()
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_lock_whose_holder_died(linkless: FolderStore, tmp_path: Path) -> None:
    lock = tmp_path / ".a.lock"
    lock.touch()
    long_ago = lock.stat().st_mtime - 2 * folders.LOCK_IS_DEAD
    os.utime(lock, (long_ago, long_ago))
    assert linkless.put_if_absent("a", b"first")
    assert os.listdir(tmp_path) == ["a"]


def full(code: int) -> Callable[[int], None]:
    def fail(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    store = FolderStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full(errno.ENOSPC))
        with pytest.raises(LoadError) as error:
            getattr(store, write)("shards/0", b"data")
    assert str(error.value) == (
        f"'{tmp_path}/shards/0' cannot be written: No space left on device; make room and run it "
        "again: what is done stays"
    )
    assert os.listdir(tmp_path / "shards") == []
    getattr(store, write)("shards/0", b"data")
    assert store.get("shards/0") == b"data"


def test_a_folder_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LoadError) as error:
        FolderStore(tmp_path).put_if_absent("a", b"data")
    assert str(error.value) == f"'{tmp_path}/a' cannot be written: Read-only file system"
    assert os.listdir(tmp_path) == []


def test_a_link_whose_answer_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(part: Path, path: Path) -> None:
        link(part, path)
        link(part, path)

    monkeypatch.setattr(os, "link", twice)
    assert FolderStore(tmp_path).put_if_absent("a", b"data")


def test_a_sweep_takes_parts_and_those_who_write_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    store.put("done/0", b"")
    (tmp_path / ".plan.json.1.ab.part").touch()
    (tmp_path / "done" / ".0.1.ab.part").touch()
    link, calls = os.link, []

    def swept(part: Path, path: Path) -> None:
        calls.append(part)
        if len(calls) == 1:
            store.sweep()
        link(part, path)

    monkeypatch.setattr(os, "link", swept)
    assert store.put_if_absent("done/1", b"data")
    assert len(calls) == 2
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["0", "1"]


def test_a_folder_that_was_taken_away(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"), create=True)
    (tmp_path / "out").rmdir()
    with pytest.raises(LoadError) as error:
        store.put("shards/0", b"")
    assert str(error.value) == (
        f"'{tmp_path}/out/shards/0' cannot be written: No such file or directory"
    )


# --- what is not there yet ------------------------------------------------------------------------


def test_what_kills_and_desktops_leave_is_nothing(store: Store, tmp_path: Path) -> None:
    assert store.is_empty()
    for name in (".plan.json.123.abcd.part", ".DS_Store", ".snapshot/x", "shards/.x.part"):
        store.put(name, b"{")
    assert store.is_empty()
    store.put("train/x.bin", b"")
    assert not store.is_empty()


def test_a_lock_that_another_has_broken_and_taken_stays(
    linkless: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at an old lock and its end, it becomes somebody else's."""
    lock, reads = tmp_path / ".a.lock", []
    lock.write_bytes(b"dead")
    content = folders._content

    def changing(path: Path) -> bytes | None:
        found = content(path)
        if path == lock and not reads:
            reads.append(path)
            lock.write_bytes(b"live")
        return found

    monkeypatch.setattr(folders, "_content", changing)
    monkeypatch.setattr(folders, "LOCK_IS_DEAD", -1.0)
    mine = folders._Lock(tmp_path / "a")
    assert not mine.taken(lock)
    assert lock.read_bytes() == b"live"
    assert os.listdir(tmp_path) == [".a.lock"]
    mine.leave()
    assert lock.read_bytes() == b"live"


def test_whoever_was_stopped_with_a_lock_that_was_broken_does_not_overwrite(
    linkless: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, calls = folders._Lock.is_own, []

    def stopped(self: Any) -> bool:
        if not calls:
            calls.append(self)
            (tmp_path / ".a.lock").write_bytes(b"of another")
            (tmp_path / "a").write_bytes(b"of another")
        return own(self)

    monkeypatch.setattr(folders._Lock, "is_own", stopped)
    assert not linkless.put_if_absent("a", b"late")
    assert (tmp_path / "a").read_bytes() == b"of another"
    assert (tmp_path / ".a.lock").read_bytes() == b"of another"


def test_a_name_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(LoadError) as error:
        FolderStore(tmp_path).put_if_absent("a", b"data")
    assert str(error.value) == f"'{tmp_path}/a' cannot be read: Permission denied"


# --- file systems that cannot write what is absent in one step ------------------------------------


def test_files_are_moved_to_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"local://{tmp_path}/out", create=True)
    assert isinstance(store, remote.RemoteStore)
    assert not store.atomic
    assert open_store(f"memory://{tmp_path.name}").atomic
    seen: list[str] = []
    pipe = store._files.pipe_file

    def watched(path: str, value: bytes, **settings: Any) -> None:
        seen.append(Path(path).name)
        pipe(path, value, **settings)

    monkeypatch.setattr(store._files, "pipe_file", watched)
    assert store.put_if_absent("done/00000.json", b"first")
    assert not store.put_if_absent("done/00000.json", b"second")
    store.put("done/00000.json", b"third")
    assert store.get("done/00000.json") == b"third"
    assert len(seen) == 2
    assert all(name.startswith(".00000.json.") and name.endswith(".part") for name in seen)
    (tmp_path / "out/done/.00000.json.ab.part").write_bytes(b"{")
    assert store.list("done/") == ["done/00000.json"]
    store.sweep()
    assert os.listdir(tmp_path / "out/done") == ["00000.json"]


def test_of_two_who_meet_only_whose_bytes_stay_was_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"local://{tmp_path}/out", create=True)
    put = remote.RemoteStore.put

    def met(self: remote.RemoteStore, name: str, data: bytes) -> None:
        put(self, name, data)
        put(self, name, b"of another")

    monkeypatch.setattr(remote.RemoteStore, "put", met)
    assert not store.put_if_absent("done/00000.json", b"mine")

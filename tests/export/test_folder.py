from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from vqtok.errors import LoadError, MismatchError
from vqtok.export.folder import check_place, in_place, printed, write_config


def old(place: Path) -> Path:
    """A folder that an export wrote."""
    place.mkdir(parents=True)
    (place / "config.json").write_text('{"model_type": "vqtok_onnx"}')
    return place


def test_places_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "deep/new", "empty"):
        check_place(tmp_path / name, overwrite=False)
    check_place(old(tmp_path / "old"), overwrite=True)


def test_places_that_cannot(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("")
    other.mkdir()
    (other / "diary.txt").write_text("")
    refused = "and no folder that `vqtok export` wrote, so it is not replaced; name another"
    for place, overwrite, said in (
        (file / "in", False, f"{file} is a file, so there can be no {file / 'in'}"),
        (file, True, f"{file} is there already, {refused}"),
        (other, True, f"{other} is there already, {refused}"),
        (
            old(tmp_path / "old"),
            False,
            f"{tmp_path / 'old'} is there already; --overwrite replaces it",
        ),
    ):
        with pytest.raises(LoadError) as error:
            check_place(place, overwrite=overwrite)
        assert str(error.value) == said


def test_it_is_moved_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "out"
    with in_place(place, keep_failed=False) as folder:
        (folder / "a").write_text("new")
        assert not place.exists()
    assert (place / "a").read_text() == "new"
    assert os.listdir(place.parent) == ["out"]


def test_an_old_one_stays_until_then(tmp_path: Path) -> None:
    place = old(tmp_path / "out")
    with in_place(place, keep_failed=False) as folder:
        (folder / "a").write_text("new")
        assert (place / "config.json").exists()
    assert os.listdir(place) == ["a"]
    assert os.listdir(tmp_path) == ["out"]


def refuse(folder: Path) -> None:
    old(folder / "x").rename(folder / "y")
    (folder / "y" / "config.json").rename(folder / "config.json")
    (folder / "y").rmdir()
    (folder / "parity.json").write_text('{"verdict": "refused"}')


@pytest.mark.parametrize("keep", [False, True])
def test_nothing_is_left_after_an_error(tmp_path: Path, keep: bool) -> None:
    place = old(tmp_path / "out")
    for name in ("encoder.onnx", "decoder.onnx"):  # what was kept before goes
        with (
            pytest.raises(MismatchError, match="refused") as error,
            in_place(place, keep_failed=keep) as folder,
        ):
            refuse(folder)
            (folder / name).write_text("new")
            raise MismatchError("refused")
    assert os.listdir(place) == ["config.json"]
    assert sorted(os.listdir(tmp_path)) == (["out", "out.failed"] if keep else ["out"])
    notes = [f"What was written is in {tmp_path / 'out.failed'}"] if keep else []
    assert getattr(error.value, "__notes__", []) == notes
    if keep:
        kept = ["config.json", "decoder.onnx", "parity.json"]
        assert sorted(os.listdir(tmp_path / "out.failed")) == kept


def test_what_was_not_refused_is_not_kept(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no"),
        in_place(tmp_path / "out", keep_failed=True) as made,
    ):
        (made / "encoder.onnx").write_text("half of it")
        raise ValueError("no")
    assert os.listdir(tmp_path) == []


def test_what_is_kept_replaces_nothing_but_its_like(tmp_path: Path) -> None:
    failed = tmp_path / "out.failed"
    failed.mkdir()
    (failed / "diary.txt").write_text("")
    refused = "and no folder that `vqtok export` wrote, so it is not replaced; name another"
    cannot = (
        f"{failed} is there already, and its graphs were not refused, so those that are cannot be "
        "kept there; name another"
    )
    for change, said in (
        (lambda: None, f"{failed} is there already, {refused}"),
        (
            lambda: (failed / "config.json").write_text('{"model_type": "vqtok_onnx"}'),
            f"{failed} holds 'diary.txt', which `vqtok export` did not write, so it is not "
            "replaced; move that, or name another",
        ),
        (lambda: (failed / "diary.txt").unlink(), cannot),
        (lambda: (failed / "parity.json").write_text('{"verdict": "exact"}'), cannot),
    ):
        change()
        with pytest.raises(LoadError) as error:
            check_place(tmp_path / "out", overwrite=False, keep_failed=True)
        assert str(error.value) == said
        check_place(tmp_path / "out", overwrite=False)
    (failed / "parity.json").write_text('{"verdict": "refused"}')
    check_place(tmp_path / "out", overwrite=False, keep_failed=True)


def test_what_came_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    failed = tmp_path / "out.failed"
    with (
        pytest.raises(MismatchError) as error,
        in_place(tmp_path / "out", keep_failed=True) as folder,
    ):
        refuse(folder)
        failed.mkdir()
        (failed / "diary.txt").write_text("")
        raise MismatchError("refused")
    assert error.value.__notes__ == [
        f"What was written could not be kept in {failed}: {failed} is there already, and no folder "
        "that `vqtok export` wrote, so it is not replaced; name another"
    ]
    assert os.listdir(tmp_path) == ["out.failed"]
    assert os.listdir(failed) == ["diary.txt"]


@pytest.mark.parametrize("name", ["mynotes.txt", "sub", "README.md"])
def test_files_of_somebody_s_own_stay(tmp_path: Path, name: str) -> None:
    place = old(tmp_path / "out")
    if name.endswith(".txt"):
        (place / name).write_text("")
    else:
        (place / name).mkdir()
    with pytest.raises(LoadError) as error:
        check_place(place, overwrite=True)
    assert str(error.value) == (
        f"{place} holds {name!r}, which `vqtok export` did not write, so it is not replaced; move "
        "that, or name another"
    )


@pytest.mark.parametrize("taken", [False, True])
def test_a_folder_that_is_there_stays_the_one_it_is(tmp_path: Path, taken: bool) -> None:
    """Somebody stands in it, or it is where a disk is mounted."""
    place = tmp_path / "out"
    if taken:
        (old(place) / "picture_encoder.onnx").write_text("old")
    else:
        place.mkdir()
    before = place.stat().st_ino
    with in_place(place, keep_failed=False) as folder:
        assert folder.parent.parent == place  # of the same file system
        (folder / "encoder.onnx").write_text("new")
        (folder / "config.json").write_text("new")
    assert place.stat().st_ino == before
    assert sorted(os.listdir(place)) == ["config.json", "encoder.onnx"]
    assert (place / "config.json").read_text() == "new"


def test_an_old_one_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, replace, seen = old(tmp_path / "out"), os.replace, []

    def full(source: Path, target: Path) -> None:
        seen.append(source.name)
        if len(seen) == 3:
            raise OSError(28, "No space left on device")
        replace(source, target)

    (place / "parity.json").write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LoadError) as error, in_place(place, keep_failed=False) as folder:
        for name in ("config.json", "parity.json"):
            (folder / name).write_text("new")
    assert str(error.value) == f"{place} cannot be written: No space left on device"
    assert seen[:4] == ["config.json", "parity.json", "parity.json", "config.json"]
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(os.listdir(place)) == ["config.json", "parity.json"]
    assert (place / "parity.json").read_text() == "old"


def test_a_place_that_was_taken_meanwhile(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with pytest.raises(LoadError) as error, in_place(place, keep_failed=False):
        place.mkdir()
        (place / "diary.txt").write_text("")
    assert str(error.value) == f"{place} cannot be written: Directory not empty"
    assert os.listdir(place) == ["diary.txt"]


def test_being_ended_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error, in_place(tmp_path / "out", keep_failed=True) as folder:
        refuse(folder)
        os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.code == 143
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_whoever_listens_is_told_of_the_end(tmp_path: Path) -> None:
    def mine(number: int, frame: object) -> None:
        heard.append(number)

    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with in_place(tmp_path / "out", keep_failed=False):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_place_where_nobody_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/proc/.out.x1y2")

    monkeypatch.setattr("vqtok.export.folder.tempfile.TemporaryDirectory", refuse)
    with pytest.raises(LoadError) as error, in_place(tmp_path / "out", keep_failed=False):
        pass
    assert str(error.value) == f"{tmp_path / 'out'} cannot be written: Permission denied"


def test_what_config_says_of_files(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"graph")
    expected = {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}
    assert printed(tmp_path / "encoder.onnx") == expected
    config = write_config(tmp_path, {"opset": 20}, [tmp_path / "encoder.onnx"])
    assert config == {"opset": 20, "files": {"encoder.onnx": expected}}
    assert json.loads((tmp_path / "config.json").read_text()) == config

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from vqtok.checkpoints import prints
from vqtok.checkpoints.prints import remembered, sha256


def settled(path: Path, text: bytes, at: int = 0) -> Path:
    path.write_bytes(text)
    os.utime(path, ns=(at, at))
    return path


def test_the_sha256(tmp_path: Path) -> None:
    file = settled(tmp_path / "a", b"abc")
    assert sha256(file) == hashlib.sha256(b"abc").hexdigest()


def test_it_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, index = settled(tmp_path / "a", b"abc"), tmp_path / "in/dex"
    first = remembered(file, index)
    (tmp_path / "link").symlink_to(file)
    monkeypatch.setattr(prints, "sha256", None)
    assert remembered(file, index) == remembered(tmp_path / "link", index) == first
    assert first == hashlib.sha256(b"abc").hexdigest()
    assert [entry.suffix for entry in index.iterdir()] == [".json"]


def test_it_is_read_again_where_anything_changed(tmp_path: Path) -> None:
    file, index = settled(tmp_path / "a", b"abc"), tmp_path / "index"
    remembered(file, index)
    for text, at in ((b"abd", 1), (b"abde", 1)):
        settled(file, text, at)
        assert remembered(file, index) == hashlib.sha256(text).hexdigest()
    settled(tmp_path / "b", b"abdf", 1).replace(file)  # of the same size and time
    assert remembered(file, index) == hashlib.sha256(b"abdf").hexdigest()
    settled(file, b"abdg", 1)  # in place, and the time turned back
    assert remembered(file, index) == hashlib.sha256(b"abdg").hexdigest()


def test_new_files_are_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for text in (b"a", b"b", b"c"):
        file.write_bytes(text)
        assert remembered(file, tmp_path / "index") == hashlib.sha256(text).hexdigest()
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state": null}', '"x"'])
def test_an_index_that_is_damaged(tmp_path: Path, text: str) -> None:
    file, index = settled(tmp_path / "a", b"abc"), tmp_path / "index"
    first = remembered(file, index)
    (entry,) = index.iterdir()
    entry.write_text(text)
    assert remembered(file, index) == first


def test_an_index_that_cannot_be_written(tmp_path: Path) -> None:
    file = settled(tmp_path / "a", b"abc")
    (tmp_path / "index").write_text("a file")
    assert remembered(file, tmp_path / "index") == hashlib.sha256(b"abc").hexdigest()

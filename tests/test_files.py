from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vqtok.files import whole


def test_a_file_appears_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


posix = pytest.mark.skipif(os.name == "nt", reason="POSIX file systems")


@posix
def test_links_and_rights_are_those_of_a_plain_write(tmp_path: Path) -> None:
    target, link, plain = (tmp_path / name for name in ("target", "link", "plain"))
    target.write_text("old")
    link.symlink_to(target)
    plain.write_text("")
    with whole(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)

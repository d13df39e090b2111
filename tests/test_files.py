from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqtok.files import save_tensors, whole


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


@posix
def test_a_request_to_end_leaves_nothing(tmp_path: Path) -> None:
    """As `kill` and the schedulers of clusters ask."""
    code = (
        "import os, signal, sys; from pathlib import Path; from vqtok.files import whole\n"
        "with whole(Path(sys.argv[1])) as file:\n"
        "    file.write(b'a')\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")])
    assert done.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@posix
def test_listeners_for_such_requests_stay(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with whole(tmp_path / "a"):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_tensors_are_read_by_whom_other_files_are(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    before = os.umask(0o027)
    try:
        save_tensors({"a": torch.ones(2)}, path, {"by": "us"})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert load_file(path)["a"].tolist() == [1, 1]

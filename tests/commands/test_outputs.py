from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from commandline import picture, tokenizer, vqtok

from vqtok.commands.outputs import whole


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
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = vqtok("encode", picture(tmp_path / "a.png"), "-t", tokenizer(), "-o", pipe)
    reader.join(60)
    assert done == (0, b"", "")
    assert received[0] == vqtok("encode", tmp_path / "a.png", "-t", tokenizer()).raw
    assert pipe.is_fifo()

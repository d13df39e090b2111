from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from clip_files import clip_tokenizer, film
from commandline import picture, tokenizer, vqtok
from source_files import write


@pytest.mark.skipif(os.name == "nt", reason="POSIX file systems")
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


def test_a_file_in_a_folders_place(tmp_path: Path) -> None:
    """Pictures, films and folders of frames alike; what was there stays."""
    lines = vqtok("encode", picture(tmp_path / "a.png"), "-t", tokenizer()).raw
    clip = json.loads(vqtok("encode", film(tmp_path / "a.mkv"), "-t", clip_tokenizer()).raw)
    back = tmp_path / "back"
    blocked = write(back / "a.mkv", b"mine")
    inside = f"{str(blocked)!r} is a file and no folder"

    row = {**json.loads(lines), "key": "a.mkv/b"}
    done = vqtok("decode", "-", "-t", tokenizer(), "-o", back, stdin=json.dumps(row).encode())
    assert done.err == f"vqtok: '{back}/a.mkv/b.png' cannot be written: {inside}\n"

    for key, form, place in (("a.mkv", "png", "000000.png"), ("a.mkv/b", "mkv", "b.mkv")):
        row = json.dumps({**clip, "key": key}).encode()
        options = "-t", clip_tokenizer(), "-o", back, "--format", form
        done = vqtok("decode", "-", *options, stdin=row)
        assert done.status == 2
        assert done.err == f"vqtok: '{back}/a.mkv/{place}' cannot be written: {inside}\n"
    assert blocked.read_bytes() == b"mine"


def test_a_folder_in_a_files_place(tmp_path: Path) -> None:
    lines = vqtok("encode", picture(tmp_path / "a.png"), "-t", tokenizer()).raw
    (tmp_path / "back" / "a.png").mkdir(parents=True)
    done = vqtok("decode", "-", "-t", tokenizer(), "-o", tmp_path / "back", stdin=lines)
    assert done.status == 2
    assert done.err == f"vqtok: '{tmp_path}/back/a.png' cannot be written: Is a directory\n"

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from commandline import picture, tokenizer, vqtok


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

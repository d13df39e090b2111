from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vqtok.errors import LoadError
from vqtok.training import checkpoints


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = {"model": {"w": torch.arange(4.0)}, "best": {"step": 3, "psnr": 20.5}, "nothing": None}
    file = checkpoints.write(tmp_path / "checkpoints", 7, state)
    found = checkpoints.read(file)
    assert found["step"] == 7
    assert found["best"] == {"step": 3, "psnr": 20.5}
    assert torch.equal(found["model"]["w"], torch.arange(4.0))
    assert file.name == "step-00000007.pt"


def test_the_newest_few_and_the_best_stay(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        checkpoints.write(tmp_path, step, {})
    checkpoints.prune(tmp_path, 2, best=10)
    assert [step for step, _ in checkpoints.listed(tmp_path)] == [10, 30, 40]
    checkpoints.prune(tmp_path, 1, best=None)
    assert [step for step, _ in checkpoints.listed(tmp_path)] == [40]


def test_steps_are_compared_as_numbers(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        checkpoints.write(tmp_path, step, {})
    assert checkpoints.newest(tmp_path).name == "step-100000000.pt"


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        checkpoints.newest(tmp_path / "none")
    assert str(error.value) == f"{tmp_path / 'none'} holds no checkpoint to go on from"


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    file = checkpoints.write(tmp_path, 1, {"w": torch.zeros(1000)})
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(LoadError) as error:
        checkpoints.read(file)
    assert str(error.value).startswith(f"{file} is not a readable checkpoint: ")


def test_another_file_of_torch_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "step-00000001.pt")
    with pytest.raises(LoadError) as error:
        checkpoints.read(tmp_path / "step-00000001.pt")
    assert str(error.value) == (
        f"{tmp_path / 'step-00000001.pt'} has the schema None; this version reads "
        "'vqtok-checkpoint/1'"
    )


def test_no_pickle_is_run(tmp_path: Path) -> None:
    torch.save({"schema": checkpoints.SCHEMA, "path": tmp_path}, tmp_path / "step-00000001.pt")
    with pytest.raises(LoadError, match="is not a readable checkpoint"):
        checkpoints.read(tmp_path / "step-00000001.pt")


WRITER = """
import sys, torch
from pathlib import Path
from vqtok.training import checkpoints
folder = Path(sys.argv[1])
state = {"w": torch.zeros(4_000_000)}
for step in range(1, 10_000):
    checkpoints.write(folder, step, state)
    checkpoints.prune(folder, 2, None)
    print(step, flush=True)
"""


def test_a_kill_leaves_the_last_one_whole(tmp_path: Path) -> None:
    for delay in (0.0, 0.013, 0.029):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        last = max(int(writer.stdout.readline()) for _ in range(3))
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        state = checkpoints.read(checkpoints.newest(tmp_path))
        assert state["step"] >= last
        assert state["w"].shape == (4_000_000,)
    checkpoints.write(tmp_path, 20_000, {})
    assert not list(tmp_path.glob("*.tmp"))

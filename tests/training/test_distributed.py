"""Two processes train what one does; a run that stopped goes on as if it had not.

One launch runs all cases of `ranks.py`, and one process runs the same beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import small_run
import torch
from torch.utils import _pytree

HERE = Path(__file__).resolve().parent
STEPS = small_run.BASE["steps"]


class Runs(NamedTuple):
    """Folders with a run for each case."""

    alone: Path
    together: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    place = tmp_path_factory.mktemp("distributed")
    small_run.pictures(place / "pictures.npy")
    found = Runs(place / "alone", place / "together")
    for folder in found:
        folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    )
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    commands = [[sys.executable], launcher]
    jobs = [
        subprocess.Popen(
            [*command, str(HERE / "ranks.py"), str(place / "pictures.npy"), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for command, folder in zip(commands, found, strict=True)
    ]
    for job in jobs:
        output, _ = job.communicate(timeout=600)
        assert job.returncode == 0, output[-4000:]
    return found


def final(run: Path) -> dict[str, Any]:
    """The state after the last step."""
    file = run / "checkpoints" / f"step-{STEPS:08d}.pt"
    return dict(torch.load(file, weights_only=True))


def tensors(state: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for path, leaf in _pytree.tree_flatten_with_path(state)[0]:
        if isinstance(leaf, torch.Tensor):
            yield _pytree.keystr(path), leaf


def differences(one: Path, other: Path) -> dict[str, float]:
    """By name: the largest difference, as a share of the largest number or of 1."""
    pairs = zip(tensors(final(one)["run"]), tensors(final(other)["run"]), strict=True)
    return {
        name: float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1))
        for (name, a), (_, b) in pairs
        if a.numel()
    }


@pytest.mark.parametrize(
    ("case", "bound"),
    # What a second codebook sees is left over from the first: its rounding is the larger one's.
    [("whole", 1e-6), ("accumulated", 1e-6), ("gradient", 1e-6), ("residual", 1e-5)],
)
def test_two_processes_are_one_with_the_double_batch(runs: Runs, case: str, bound: float) -> None:
    """Rotation, EMA, replacement, LeCAM, R1, feature matching, adaptive weight, entropy, ramp."""
    found = differences(runs.alone / case, runs.together / case)
    assert len(found) > 100
    assert max(found.values()) <= bound, max(found, key=found.__getitem__)


@pytest.mark.parametrize("case", ["whole", "accumulated", "gradient", "residual", "resumed"])
def test_processes_hold_the_same_bits(runs: Runs, case: str) -> None:
    first, second = json.loads((runs.together / case / "ranks.json").read_text())
    assert first == second


@pytest.mark.parametrize("processes", ["alone", "together"])
def test_a_resumed_run_is_one_that_never_stopped(runs: Runs, processes: str) -> None:
    folder = getattr(runs, processes)
    one, other = final(folder / "accumulated"), final(folder / "resumed")
    assert one["best"] == other["best"]
    assert one["watch"] == other["watch"]
    for (name, a), (_, b) in zip(tensors(one["run"]), tensors(other["run"]), strict=True):
        assert torch.equal(a, b), name


def figures(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, but for how fast it was."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("img_per_s", "waiting")} for line in lines]


@pytest.mark.parametrize("processes", ["alone", "together"])
def test_its_figures_are_the_same_too(runs: Runs, processes: str) -> None:
    folder = getattr(runs, processes)
    expected = figures(folder / "accumulated")
    assert figures(folder / "resumed") == expected
    kinds = [(line["step"], line["kind"]) for line in expected]
    assert kinds == [
        (0, "event"),
        (4, "train"),
        (6, "validation"),
        (8, "train"),
        (12, "train"),
        (12, "validation"),
    ]


def test_usage_is_that_of_all_processes(runs: Runs) -> None:
    alone, together = (figures(folder / "whole") for folder in runs)
    for one, other in zip(alone, together, strict=True):
        if one["kind"] == "train":
            assert one["usage"] == other["usage"]
            assert one["perplexity"] == pytest.approx(other["perplexity"], rel=1e-9)
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)

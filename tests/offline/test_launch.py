"""Which engine a job gets, and with how many workers and decoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vqtok.offline import launch as launches
from vqtok.offline.launch import launch


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with 24, on which nothing was launched."""
    for name in (*launches.LAUNCHED, *launches.BESIDE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launches.os, "sched_getaffinity", lambda _: set(range(24)), raising=False)


@pytest.mark.parametrize(
    ("environ", "decoders"),
    [
        ({"SLURM_TASKS_PER_NODE": "4(x2),3"}, 6),
        ({"SLURM_TASKS_PER_NODE": "4", "SLURM_NTASKS_PER_NODE": "8"}, 3),
        ({"SLURM_TASKS_PER_NODE": "2", "SLURM_STEP_TASKS_PER_NODE": "12"}, 2),
        ({"LOCAL_WORLD_SIZE": "3", "SLURM_TASKS_PER_NODE": "1"}, 8),
        ({"SLURM_TASKS_PER_NODE": "many"}, 16),
        ({}, 16),
    ],
)
def test_processes_share_the_cores(
    cores: None, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], decoders: int
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert launch(rank="0/64").decoders == decoders


@pytest.mark.parametrize(
    ("given", "devices", "workers"),
    [
        ({"device": None}, 4, 4),
        ({"device": "auto"}, 4, 4),
        ({"device": "cuda", "engine": "local"}, 4, 4),
        ({"device": "cuda"}, 1, 1),
        ({"device": "cuda:2"}, 4, 1),
        ({"device": "cpu"}, 4, 1),
        ({}, 4, 1),
        ({"device": "auto", "processes": 2}, 4, 2),
        ({"device": "auto", "processes": 1}, 4, 1),
    ],
)
def test_a_worker_for_each_device(
    cores: None,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    devices: int,
    workers: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    chosen = launch(**given)
    assert (chosen.here, chosen.decoders) == (workers == 1, min(24 // workers, 16))

"""What the benchmark of ONNX Runtime reads and prints, on engines of a line."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("onnx_encode")
    sys.modules.pop("onnx_encode")


def test_each_run_begins_with_another_engine(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "LEAST", 1e-9)
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    found = script.taken_in_turns(calls, 2)
    assert "".join(order) == "abc" + "abc" + "bca"
    assert [len(found[name]) for name in "abc"] == [2, 2, 2]
    assert all(reading >= 0 for readings in found.values() for pair in readings for reading in pair)


def test_what_agrees(script: ModuleType) -> None:
    assert script.likeness("encode", np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.75
    assert script.likeness("decode", np.uint8([0, 200]), np.uint8([3, 198])) == 3


def test_ratios_are_taken_within_a_run(script: ModuleType) -> None:
    cell = script.Cell("photo-tiny", 1, 2)
    readings = {
        "eager": {"agrees": 1.0, "readings": [[0.1, 0.2], [0.2, 0.4], [0.1, 0.2]]},
        "onnx": {"agrees": 0.9999, "readings": [[0.05, 0.1], [0.1, 0.2], [0.06, 0.1]]},
    }
    lines = script.table(
        "photo-tiny", "encode", {cell: {"encode": readings}}, Namespace(device="cpu")
    ).splitlines()
    assert lines[0] == "**photo-tiny, encode**"
    assert lines[4] == (
        "| 1 | 2 | torch, eager | 50.0 | 1.00 (1.00 to 1.00) | 100 | 1.00 (1.00 to 1.00) | 1 |"
    )
    assert lines[5] == (
        "| 1 | 2 | ONNX Runtime | 30.0 | 0.50 (0.50 to 0.60) "
        "| 50.0 | 0.50 (0.50 to 0.50) | 0.9999 |"
    )
    assert [line.count("|") for line in lines[2:6]] == [9] * 4


def test_a_gpu_is_timed_by_the_clock_alone(script: ModuleType) -> None:
    cell = script.Cell("photo-tiny", 1, 1)
    readings = {"eager": {"agrees": 0.0, "readings": [[0.1, 0.2]]}}
    found = {cell: {"decode": readings}}
    lines = script.table("photo-tiny", "decode", found, Namespace(device="cuda")).splitlines()
    assert lines[4] == "| 1 | 1 | torch, eager | 200 | 1.00 (1.00 to 1.00) | 0 |"
    assert [line.count("|") for line in lines[2:5]] == [7] * 3


def test_photographs_are_squares_of_the_samples(script: ModuleType) -> None:
    pixels = script.photographs(5)
    assert (pixels.shape, pixels.dtype) == ((5, 256, 256, 3), np.uint8)
    assert len({picture.tobytes() for picture in pixels}) == 5

"""`metrics.jsonl`: what is in a line, and what a kill leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import InputError, LoadError
from vqtok.training.reports.metrics import MetricsFile, read_metrics

START = {"step": 0, "kind": "event", "event": "start", "schema": "vqtok-metrics/1"}


def write(file: MetricsFile, first: int, last: int) -> None:
    """What a run says of the steps after `first`, up to `last`."""
    for step in range(first + 1, last + 1):
        file.write(step, "train", {"loss": 1 / step})
        if step % 3 == 0:
            file.write(step, "validation", {"psnr": 20.0 + step})


def test_a_line_is_an_object_of_json(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as file:
        file.write(50, "train", {"loss": 0.5, "note": "é", "lpips": None, "tokens": 7})
        file.write(50, "event", {"event": "one_code"})
        # Before it is closed: each line is there as soon as it is written.
        lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        START,
        {"step": 50, "kind": "train", "loss": 0.5, "note": "é", "lpips": None, "tokens": 7},
        {"step": 50, "kind": "event", "event": "one_code"},
    ]
    assert read_metrics(tmp_path / "metrics.jsonl") == [json.loads(line) for line in lines]


def test_what_is_no_number_is_null_and_named(tmp_path: Path) -> None:
    values = {"a": math.nan, "b": np.float32("inf"), "c": -math.inf, "d": None, "e": np.float32(2)}
    with MetricsFile(tmp_path / "m") as file:
        file.write(1, "train", values)
    line = read_metrics(tmp_path / "m")[1]
    assert line == {
        "step": 1,
        "kind": "train",
        "a": None,
        "b": None,
        "c": None,
        "d": None,
        "e": 2.0,
        "nonfinite": ["a", "b", "c"],
    }


def test_names_that_a_line_needs_itself(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "m") as file, pytest.raises(InputError) as error:
        file.write(1, "train", {"loss": 1.0, "kind": "x"})
    assert str(error.value) == (
        "a line of metrics.jsonl has 'kind' for its own use; rename the value"
    )
    assert read_metrics(tmp_path / "m") == [START]


@given(
    stop=st.integers(0, 9), killed=st.integers(0, 12), torn=st.integers(0, 60), total=st.just(12)
)
def test_a_resumed_file_is_that_of_a_run_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, stop: int, killed: int, torn: int, total: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with MetricsFile(folder / "whole") as file:
        write(file, 0, total)
    killed = max(stop, killed)
    with MetricsFile(folder / "cut") as file:
        write(file, 0, killed)
    if killed > stop and torn:  # half of what came after the checkpoint, or less, of a last line
        size = (folder / "cut").stat().st_size
        last = len((folder / "cut").read_bytes().splitlines(keepends=True)[-1])
        with (folder / "cut").open("r+b") as raw:
            raw.truncate(size - min(torn, last))
    with MetricsFile(folder / "cut", resume=stop) as file:
        write(file, stop, total)
    assert (folder / "cut").read_bytes() == (folder / "whole").read_bytes()
    assert {path.name for path in folder.iterdir()} == {"whole", "cut"}


@pytest.mark.parametrize("rest", [b'{"step": 2, "kind": "tr', b'{"step": 2}', b"\x80", b"null\n"])
def test_a_last_line_that_is_not_whole_is_dropped(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "m"
    with MetricsFile(path) as file:
        write(file, 0, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    assert [line["step"] for line in read_metrics(path)] == [0, 1]
    MetricsFile(path, resume=2).close()
    assert path.read_bytes() == whole


def test_from_before_the_first_step_all_is_new(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for resume in (None, -1, -1):
        with MetricsFile(path, resume) as file:
            write(file, 0, 2)
    assert [line["step"] for line in read_metrics(path)] == [0, 1, 2]


def test_a_resumed_run_may_have_no_file(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "m", resume=4):
        pass
    assert read_metrics(tmp_path / "m") == [START]


def test_another_runs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("by hand")
    with pytest.raises(LoadError) as error:
        MetricsFile(path)
    assert str(error.value) == (
        f"{path} holds the figures of another run; resume that one, or take another folder"
    )
    assert path.read_text() == "by hand"


def test_a_damaged_line_in_the_middle_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text('{"step": 1, "kind": "train"}\n{"st\n{"step": 2, "kind": "train"}\n')
    for attempt in (lambda: read_metrics(path), lambda: MetricsFile(path, resume=5)):
        with pytest.raises(LoadError) as error:
            attempt()
        assert str(error.value) == f"{path}, line 2, is no line of a run's figures; remove it"

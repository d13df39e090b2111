"""The line that shows how a job goes: at every width, and without jumps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vqtok.commands import bar as module
from vqtok.commands.bar import Bar

WAITS = {"decode": 0.7, "encode": 0.02, "write": 0.01}


def progress(**changes: Any) -> Any:
    usual = {
        "reached": 281_167,
        "planned": 1_281_167,
        "lost": 1_212,
        "speed": 1_516.3,
        "wait_shares": WAITS,
    }
    return SimpleNamespace(**{**usual, **changes})


Capture = pytest.CaptureFixture[str]


def lines(capsys: Capture) -> list[str]:
    return capsys.readouterr().err.split("\r\x1b[K")[1:]


FULL = (
    "281,167 of 1,281,167 rows, 1,212 failed, 1,516.3 img/s, 0:11:00 left, waits: decode 70%, "
    "encode 2%, write 1%"
)
SHORT = "281k/1.28M rows, 1.21k failed, 1.52k img/s, 0:11:00 left, wait decode 70%"


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (160, f"tokenize  [#####-------------------]   22%  {FULL}"),
        (140, f"tokenize  [##--------]   22%  {FULL}"),
        (100, f"[##--------]  22%  {SHORT}"),
        (80, f"22%  {SHORT}"),
        (60, f"22%  {SHORT}"[:59]),
    ],
)
def test_what_fits(
    columns: int, line: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Bar("tokenize")(progress())
    assert lines(capsys) == [line]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"lost": 0, "speed": 516.0}, "[##--------]  22%  281k/1.28M rows, 516 img/s, 0:32:18 "
         "left, wait decode 70%"),
        ({"speed": 5.0}, "22%  281k/1.28M rows, 1.21k failed, 5 img/s, 56h left, wait decode "
         "70%"),
        ({"speed": None, "wait_shares": {}}, "tokenize  [##--------]   22%  281,167 of 1,281,167 "
         "rows, 1,212 failed"),
    ],
)  # fmt: skip
def test_80_columns_show_all(
    changes: dict[str, Any], line: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Bar("tokenize")(progress(**changes))
    assert lines(capsys) == [line]


def test_speeds_do_not_jump(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setenv("COLUMNS", "200")
    shown = Bar("tokenize")
    for speed, seconds in ((273.0, 0.5), (516.0, 0.5), (442.0, 60.0), (442.0, 0.0)):
        shown(progress(speed=speed))
        clock[0] += seconds
    speeds = [float(line.partition(" img/s")[0].rpartition(" ")[2]) for line in lines(capsys)]
    assert speeds == [273.0, 296.1, 310.0, 442.0]

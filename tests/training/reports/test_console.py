"""Lines and the bar, and the clock behind them."""

from __future__ import annotations

import io
import math
import re

import pytest

from vqtok.training.reports.console import Clock, Console, Speed, duration, number


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FIGURES = {
    "l1": 0.12344,
    "commit": 0.00012,
    "loss": 12.0,
    "e_norm": 1.0,
    "obtuse": 0.25,
    "usage": 0.8731,
    "perplexity": 412.34,
    "top_share": 0.01,
    "angle": 12.34,
    "lr": 1e-4,
}
SPEED = Speed(345.24, 0.021, 3725.0)
LINE = (
    "step   50/1000 | l1 0.1234     commit 1.20e-04   loss 12.00     | usage 87.3%   "
    "perplexity 412.3   angle 12.3°  | 345.2 img/s  waiting for data 2%  ETA 1h 02m\n"
)


def test_a_line_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Console(1000, stream=stream) as console:
        for _ in range(50):
            console.advance()
        console.line(50, FIGURES, SPEED)
    assert stream.getvalue() == LINE


def test_columns_stay_in_their_places() -> None:
    stream = io.StringIO()
    with Console(1000, stream=stream, unit="clip") as console:
        console.line(1, FIGURES, Speed(math.nan, math.nan, math.nan))
        console.line(1000, {**FIGURES, "l1": -1e-9, "usage": 1.0, "angle": 5.0}, SPEED)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("| - clip/s  waiting for data -  ETA -")
    for name in ("commit", "loss", "usage", "perplexity", "angle", " | "):
        assert first.index(name) == second.index(name)


def test_figures_that_a_run_has_not() -> None:
    stream = io.StringIO()
    with Console(10, stream=stream) as console:
        console.line(10, {"l2": math.nan}, Speed(1, 0, 0))
        console.warn("half of it is gone")
    assert stream.getvalue() == (
        "step 10/10 | l2 nan       | 1.000 img/s  waiting for data 0%  ETA 0s\n"
        "warning: half of it is gone\n"
    )


def seen(text: str) -> list[str]:
    """What a terminal shows in the end, line by line."""
    lines = re.sub(r"\x1b\[\?25[lh]", "", text).split("\n")
    return [re.split("\r(?:\x1b\\[K)?", line)[-1].rstrip() for line in lines]


def test_a_bar_stands_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    with Console(1000, 400, stream=stream) as console:
        for _ in range(50):
            console.advance()
        console.line(450, FIGURES, SPEED)
        console.say("saved")
    line, saved, bar, *rest = seen(stream.getvalue())
    assert line == LINE.replace("  50/", " 450/").rstrip()
    assert saved == "saved"
    assert re.fullmatch(r"training +\[#+-+\] +450/1000 +45%", bar)
    assert rest == [""]
    assert stream.getvalue().endswith("\x1b[?25h\n")  # the cursor is visible again


def test_a_narrow_terminal_gets_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    with Console(1000, stream=stream) as console:
        console.line(50, FIGURES, SPEED)
    shown = seen(stream.getvalue())[:-2]
    assert shown == [
        "step   50/1000",
        "  l1 0.1234     commit 1.20e-04   loss 12.00",
        "  usage 87.3%   perplexity 412.3   angle 12.3°",
        "  345.2 img/s  waiting for data 2%  ETA 1h 02m",
    ]


def test_speed_is_that_since_the_last_reading() -> None:
    now = Time()
    clock = Clock(10, now=now)
    now.now += 50  # the first step is slow
    clock.stepped(8)
    first = clock.read()
    assert first[:2] == (8 / 50, 0.0)
    assert math.isnan(first.remaining)
    for _ in range(4):
        clock.waited(0.5)
        now.now += 2
        clock.stepped(8)
    assert clock.read() == Speed(4.0, 0.25, 2.0 * 5)


def test_pauses_count_for_the_time_left_alone() -> None:
    now = Time()
    clock = Clock(8, step=4, now=now)
    clock.stepped(8)
    clock.read()
    now.now += 6
    clock.paused(4)
    clock.waited(1)
    clock.stepped(8)
    assert clock.read() == Speed(4.0, 0.5, 6.0 * 2)
    now.now += 1
    assert clock.read()[2] == 7.0 * 2


def test_nothing_is_known_before_a_step_and_nothing_left_after_the_last() -> None:
    now = Time()
    clock = Clock(1, now=now)
    assert all(math.isnan(value) for value in clock.read())
    now.now += 1
    clock.stepped(3)
    assert clock.read() == Speed(3.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.0123456, "0.01235"),
        (12.3456, "12.35"),
        (4123.7, "4124"),
        (41237.0, "4.12e+04"),
        (1.5e-5, "1.50e-05"),
        (-3.0, "-3.000"),
        (math.inf, "inf"),
        (None, "-"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (37, "37s"),
        (249, "4m 09s"),
        (3599.7, "1h 00m"),
        (86400 * 2 + 3 * 3600, "2d 03h"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

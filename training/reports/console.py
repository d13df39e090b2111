"""What a person sees while a run goes on: a line every so many steps, and a bar on a terminal."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self, TextIO

import typer

from vqtok.metrics.quantization import Statistics

__all__ = ["Clock", "Console", "Speed", "duration", "number"]

# Figures with a place of their own on the line; what `QUIET` names is in metrics.jsonl alone, and
# everything else is a loss.
CODEBOOK: dict[str, Callable[[float], str]] = {
    "usage": lambda share: f"{share:.1%}",
    "perplexity": lambda value: f"{value:.1f}",
    "angle": lambda degrees: f"{degrees:.1f}°",
}
QUIET = {*Statistics._fields, "lr", "top_share"} - {*CODEBOOK}
WIDTH = 9  # of a number; one that grows does not move the others
ERASE = "\r\x1b[K"


class Speed(NamedTuple):
    """How fast a run is. NaN is what cannot be told yet."""

    images_per_second: float  # over all processes, since the last reading; without pauses
    waiting: float  # the share of that time in which the device had no data, in [0, 1]
    remaining: float  # seconds until the last step, pauses like those so far included


class Clock:
    """Measures a run by what its loop tells it.

    total, step  the last step of the run, and the one it stands at
    """

    def __init__(
        self, total: int, step: int = 0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.step, self._now = total, step, now
        self._first: tuple[int, float] | None = None
        self._reset()

    def waited(self, seconds: float) -> None:
        """The loop stood still so long for its data."""
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """The loop did something else so long: validated, or wrote a checkpoint."""
        self._paused += seconds

    def stepped(self, images: int) -> None:
        """An optimizer step on so many pictures, over all processes, is done."""
        self.step += 1
        self._images += images
        if self._first is None:  # the first step holds the start of workers and compilers
            self._first = self.step, self._now()

    def read(self) -> Speed:
        """The speed since the last reading."""
        now = self._now()
        seconds = now - self._since - self._paused
        remaining = math.nan
        if self._first is not None and self.step > self._first[0]:
            done = self.step - self._first[0]
            remaining = (now - self._first[1]) / done * (self.total - self.step)
        rate, waiting = math.nan, math.nan
        if seconds > 0 and self._images:
            rate, waiting = self._images / seconds, min(1.0, self._waited / seconds)
        self._reset()
        return Speed(rate, waiting, 0.0 if self.step >= self.total else remaining)

    def _reset(self) -> None:
        self._since = self._now()
        self._waited = self._paused = 0.0
        self._images = 0


class Console:
    """Lines on standard error; on a terminal a bar stands below them. Use it in a `with` block.

    total, step  the last step of the run, and the one it stands at
    unit         what a sample is called: "img" or "clip"
    """

    def __init__(
        self, total: int, step: int = 0, *, unit: str = "img", stream: TextIO | None = None
    ) -> None:
        self.total, self.step, self.unit = total, step, unit
        self.stream = sys.stderr if stream is None else stream
        self._bar = None
        if self.stream.isatty():
            self._bar = typer.progressbar(
                length=total,
                label="training",
                show_pos=True,
                show_percent=True,
                show_eta=False,  # its own knows neither a resumed step nor pauses
                file=self.stream,
            )
            self._bar.pos = step

    def advance(self) -> None:
        """A step is done."""
        self.step += 1
        if self._bar is not None:
            self._bar.update(1)

    def line(self, step: int, figures: Mapping[str, float], speed: Speed) -> None:
        """The figures of the steps since the last line."""
        losses = [name for name in figures if name not in QUIET and name not in CODEBOOK]
        groups = [
            [f"step {step:>{len(str(self.total))}}/{self.total}"],
            [f"{name} {number(figures[name]):<{WIDTH}}" for name in losses],
            [f"{name} {CODEBOOK[name](figures[name]):<6}" for name in CODEBOOK if name in figures],
            [
                f"{_rate(speed.images_per_second)} {self.unit}/s",
                f"waiting for data {_share(speed.waiting)}",
                f"ETA {duration(speed.remaining)}",
            ],
        ]
        width = shutil.get_terminal_size().columns if self._bar is not None else None
        self.say(_laid_out(groups, width))

    def say(self, message: str) -> None:
        """A line of any words, above the bar where there is one."""
        before = after = ""
        if self._bar is not None:
            before, after = ERASE, self._bar.format_progress_line()
        self.stream.write(f"{before}{message}\n{after}")
        self.stream.flush()

    def warn(self, message: str) -> None:
        """A line that begins with `warning:`."""
        self.say(f"warning: {message}")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)


def number(value: float | None) -> str:
    """Four digits: .01234, 12.34, 412.0, 1.23e-05; what is no number by name."""
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:#.4g}".removesuffix(".") if plain else f"{value:.2e}"


def duration(seconds: float) -> str:
    """Seconds -> two units: 2d 03h, 1h 05m, 4m 09s, 37s; "-" where they are not known."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def _rate(value: float) -> str:
    return number(value) if math.isfinite(value) else "-"


def _share(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else "-"


def _laid_out(groups: list[list[str]], width: int | None) -> str:
    """Groups of fields, in one line or, where that is too wide, in several."""
    parts = ["  ".join(group) for group in groups if group]
    line = " | ".join(parts)
    if width is None or len(line) <= width:
        return line
    lines = parts[:1]
    for group in filter(None, groups[1:]):
        lines.append("")
        for field in group:
            longer = f"{lines[-1]}  {field}"
            if lines[-1] and len(longer.rstrip()) > width:
                lines.append(f"  {field}")
            else:
                lines[-1] = longer
    return "\n".join(line.rstrip() for line in lines)

"""One line that shows how a job goes, as long as the terminal is wide."""

from __future__ import annotations

import math
import shutil
import sys
import time

from vqtok.commands.figures import duration, waits_of
from vqtok.offline.progress import Progress

__all__ = ["Bar", "state"]

WIDE, NARROW = 24, 10
CALM = 5.0  # seconds in which a shown speed comes two thirds of the way to another


class Bar:
    """Draws over itself on standard error; speeds are smoothed, as a shard's end makes them jump.

    Where the line is too long, the bar gets short, then figures are rounded, and then it goes.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._speed: float | None = None
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        """To be called with whatever is new."""
        room = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{self._line(progress, room)}")
        sys.stderr.flush()

    def _line(self, progress: Progress, room: int) -> str:
        part = progress.reached / max(1, progress.planned)
        speed = self._calm(progress.speed)
        full = f"{part:4.0%}  {state(progress, speed)}"
        short = f"{part:.0%}  {_short(progress, speed)}"
        forms = (
            f"{self._label}  {_bar(part, WIDE)}  {full}",
            f"{self._label}  {_bar(part, NARROW)}  {full}",
            f"{_bar(part, NARROW)}  {short}",
            short,
        )
        return next((form for form in forms if len(form) <= room), short[:room])

    def _calm(self, speed: float | None) -> float | None:
        now = time.monotonic()
        if speed is not None and self._speed is not None:
            share = -math.expm1(-(now - self._last) / CALM)
            speed = self._speed + share * (speed - self._speed)
        self._speed, self._last = speed, now
        return speed


def state(progress: Progress, speed: float | None) -> str:
    """Rows, failures, a speed and what is left at it, and waits, in full."""
    parts = [f"{progress.reached:,} of {progress.planned:,} rows"]
    if progress.lost:
        parts.append(f"{progress.lost:,} failed")
    if speed:
        parts.append(f"{speed:,.1f} img/s")
        parts.append(f"{duration((progress.planned - progress.reached) / speed)} left")
    if progress.wait_shares:
        parts.append(f"waits: {waits_of(progress.wait_shares)}")
    return ", ".join(parts)


def _short(progress: Progress, speed: float | None) -> str:
    """The same in less than 80 characters: counts rounded, and of waits the greatest."""
    parts = [f"{_rounded(progress.reached)}/{_rounded(progress.planned)} rows"]
    if progress.lost:
        parts.append(f"{_rounded(progress.lost)} failed")
    if speed:
        parts.append(f"{_rounded(speed)} img/s")
        parts.append(f"{_hours((progress.planned - progress.reached) / speed)} left")
    if progress.wait_shares:
        name, share = max(progress.wait_shares.items(), key=lambda each: each[1])
        parts.append(f"wait {name} {share:.0%}")
    return ", ".join(parts)


def _bar(part: float, width: int) -> str:
    filled = round(width * part)
    return f"[{'#' * filled}{'-' * (width - filled)}]"


def _rounded(count: float) -> str:
    """999, 1.28M"""
    for unit in ("", "k", "M"):
        if count < 999.5:  # which three digits would show as 1e+03
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}G"


def _hours(seconds: float) -> str:
    """0:32:10; of days, too, the hours, as 53h"""
    return duration(seconds) if seconds < 86400 else f"{seconds / 3600:,.0f}h"

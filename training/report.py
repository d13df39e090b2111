"""Everything that a run shows: lines, `metrics.jsonl`, pictures, trackers. One process speaks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from vqtok.training.collapse import Finding
from vqtok.training.reports.console import Clock, Console, number
from vqtok.training.reports.metrics import FILE, MetricsFile
from vqtok.training.reports.pictures import save_picture
from vqtok.training.reports.trackers import Trackers
from vqtok.training.validation import Found

__all__ = ["Report"]


class Report:
    """What the loop tells, in the places where people look. Use it in a `with` block.

    On processes that do not speak every call does nothing.
    """

    def __init__(
        self,
        output: Path,
        *,
        speaks: bool,
        total: int,
        begun: int,
        resume: bool,
        trackers: Trackers,
        unit: str = "img",
    ) -> None:
        self.output, self.speaks, self.total, self.begun = output, speaks, total, begun
        self.resume, self.trackers, self.unit = resume, trackers, unit
        self.clock = Clock(total, begun)
        self.warnings: list[str] = []
        self.open = ExitStack()

    def __enter__(self) -> Self:
        if self.speaks:
            self.output.mkdir(parents=True, exist_ok=True)
            # A run that died before its first checkpoint has left figures, and begins anew.
            last = self.begun if self.resume else -1
            self.metrics = self.open.enter_context(MetricsFile(self.output / FILE, last))
            self.console = self.open.enter_context(Console(self.total, self.begun, unit=self.unit))
            self.open.callback(self.trackers.close)
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def waited(self, seconds: float) -> None:
        """The loop stood still so long for its data."""
        self.clock.waited(seconds)

    def advance(self, pictures: int) -> None:
        """A step on so many pictures, over all processes, is done."""
        self.clock.stepped(pictures)
        if self.speaks:
            self.console.advance()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is no training, and must not slow the figures of it."""
        began = time.monotonic()
        yield
        self.clock.paused(time.monotonic() - began)

    def train(self, step: int, figures: Mapping[str, float]) -> None:
        """The figures of the steps since the last line."""
        speed = self.clock.read()
        if not self.speaks:
            return
        self.console.line(step, figures, speed)
        rates = {"img_per_s": speed.images_per_second, "waiting": speed.waiting}
        self.metrics.write(step, "train", {**figures, **rates})
        self.trackers.log(step, {f"train/{k}": v for k, v in {**figures, **rates}.items()})

    def validation(self, step: int, found: Found) -> None:
        """The figures and pictures of a validation."""
        if not self.speaks:
            return
        figures, sheets = found.figures, found.sheets(f"step {step:,}")
        shown = "  ".join(f"{name} {number(value)}" for name, value in figures.items())
        self.console.say(f"step {step:>{len(str(self.total))}}/{self.total} | validation | {shown}")
        self.metrics.write(step, "validation", figures)
        self.trackers.log(step, {f"validation/{k}": v for k, v in figures.items()})
        for folder, sheet in sheets.items():
            save_picture(sheet, self.output / folder, step)
        self.trackers.images(step, sheets)

    def warn(self, step: int, finding: Finding) -> None:
        """Something looks like a collapse."""
        self.warnings.append(str(finding))
        if self.speaks:
            self.console.warn(str(finding))
            self.metrics.write(step, "event", {"event": finding.kind, "message": str(finding)})

    def say(self, message: str) -> None:
        """A line of any words."""
        if self.speaks:
            self.console.say(message)

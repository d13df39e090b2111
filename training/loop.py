"""A run from its first step, or the one it stopped at, to the tokenizer that comes of it."""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vqtok.errors import ConfigError
from vqtok.folders import unstarted
from vqtok.training import checkpoints
from vqtok.training.collapse import Trained, Watch
from vqtok.training.data.loader import Batches
from vqtok.training.data.split import split_of
from vqtok.training.finish import FOLDER as TOKENIZER
from vqtok.training.finish import finish
from vqtok.training.launch import make_accelerator
from vqtok.training.parts import make_model
from vqtok.training.presets import SETTINGS, to_yaml
from vqtok.training.reduce import any_rank
from vqtok.training.report import Report
from vqtok.training.reports.story import Facts
from vqtok.training.reports.trackers import Trackers
from vqtok.training.settings import Settings
from vqtok.training.starting import go_on
from vqtok.training.step import Outcome, Step
from vqtok.training.validation import Found, Validator
from vqtok.training.window import Window

__all__ = ["CHECKPOINTS", "Run", "train"]

CHECKPOINTS = "checkpoints"
BEST_BY = "psnr"  # a figure of validation; more is better
# Steps after which processes ask each other whether to stop. Launchers kill half a minute later.
ASK_EVERY = 5


def train(settings: Settings, output: Path, resume: bool = False) -> Path:
    """Trains what `settings` describe into the folder `output`; returns the tokenizer's folder.

    With `resume` it goes on from the newest checkpoint there, as if it had not stopped. A run that
    is asked to stop (SIGINT, SIGTERM) writes a checkpoint first, and `output` is returned.
    """
    return Run(settings, output, resume).go()


class Run:
    """The parts of a run, made before the first step, so that what lacks is said at once."""

    def __init__(self, settings: Settings, output: Path, resume: bool = False) -> None:
        self.settings, self.output = settings, output
        last = checkpoints.newest(output / CHECKPOINTS) if resume else None
        if last is None:
            _check_empty(output)
        self.accelerator = make_accelerator(settings, output)
        torch.manual_seed(settings.seed)
        self.split = split_of(settings.data)
        self.batches = self._make_batches()
        model = make_model(settings).to(self.accelerator.device)
        if settings.init is not None and last is None:
            go_on(model, islice(self.batches.micro_batches(0), settings.accumulate))
        if unstarted(model) > settings.steps:
            raise ConfigError(
                f"steps={settings.steps} ends before the codebook has started, which takes "
                f"{unstarted(model)} steps (codebook.kmeans_iters, codebook.quantize_after)"
            )
        self.step = Step(self.accelerator, settings, model)
        self.validator = Validator(settings, self.split, self.step)
        self.window = Window()
        trained = Trained.of(model, settable=settings.init is None)
        self.watch = Watch(model.quantize.codebook_size, settings.on_collapse, settings, trained)
        self.best: dict[str, float] = {}
        self.found: Found | None = None
        self.seconds = 0.0
        self.begun = 0 if last is None else self._load(checkpoints.read(last))
        self.report = self._make_report(resumed=last is not None)
        self.asked_to_stop = False

    def go(self) -> Path:
        """Trains to the end, and makes the tokenizer."""
        settings = self.settings
        began = time.monotonic() - self.seconds
        with self.report, _listening(self):
            if self.step.judge is not None and self.step.judge.origin and not self.begun:
                self.report.say(self.step.judge.origin)
            if self.report.speaks:
                (self.output / SETTINGS).write_text(to_yaml(settings), encoding="utf-8")
            stream = self.batches.micro_batches(self.begun)
            for step in range(self.begun, settings.steps):
                outcome = self.step.run(step, self._timed(stream))
                self.window.add(outcome)
                self.report.advance(settings.batch_size)
                self.seconds = time.monotonic() - began
                if self._after(step + 1, outcome):
                    return self.output
            if self.begun == settings.steps:  # it ended, and died before its tokenizer was there
                self._validate(settings.steps)
            return self._finish()

    # --- what is due between steps ----------------------------------------------------------------

    def _after(self, done: int, outcome: Outcome) -> bool:
        """What is due when so many steps are done; whether the run stops before its end."""
        settings, last = self.settings, done == self.settings.steps
        logs = last or done % settings.log_every == 0
        if logs:
            self._log(done, outcome)
        better = (last or done % settings.validate_every == 0) and self._validate(done)
        asks = not last and (self.accelerator.num_processes == 1 or done % ASK_EVERY == 0)
        stops = asks and any_rank(self.asked_to_stop)
        if last or stops or better or done % settings.save_every == 0:
            self._save(done)
        if stops:
            self.report.say(
                f"stopped after {done} of {settings.steps} steps, as asked; go on with "
                f"--resume {self.output}"
            )
        return stops

    def _log(self, done: int, outcome: Outcome) -> None:
        model = self.step.model
        figures = self.window.figures(outcome, model.quantize)
        figures["lr"] = self.step.optimizer.param_groups[0]["lr"]
        self.report.train(done, figures)
        for finding in self.watch.check(done, figures, is_open=bool(unstarted(model))):
            self.report.warn(done, finding)

    def _validate(self, done: int) -> bool:
        """Shows how good the model is; whether it never was better."""
        with self.report.pause():
            found = self.validator.run()
            if found is None:
                return False
            self.found = found
            self.report.validation(done, found)
            score = found.figures.get(BEST_BY, 0.0)
            if score <= self.best.get(BEST_BY, 0.0):
                return False
            self.best = {"step": done, BEST_BY: score}
            return True

    def _save(self, done: int) -> None:
        window = self.window.state_dict()  # all ranks take part
        if self.accelerator.is_main_process:
            with self.report.pause():
                folder = self.output / CHECKPOINTS
                state = {
                    "run": self.step.state_dict(),
                    "window": window,
                    "watch": self.watch.state_dict(),
                    "best": self.best,
                    "seconds": self.seconds,
                }
                checkpoints.write(folder, done, state)
                best = int(self.best["step"]) if self.best else None
                checkpoints.prune(folder, self.settings.keep, best)
        self.accelerator.wait_for_everyone()

    def _load(self, state: dict[str, Any]) -> int:
        step = int(state["step"])
        ended = (self.output / TOKENIZER).is_dir()
        if step > self.settings.steps or (step == self.settings.steps and ended):
            raise ConfigError(
                f"{self.output} is trained to its end, {step} steps; for more, resume with "
                f"--set steps={2 * step}"
            )
        self.step.load_state_dict(state["run"])
        self.window.load_state_dict(state["window"], self.accelerator.device)
        self.watch.load_state_dict(state["watch"])
        self.best, self.seconds = state["best"], state["seconds"]
        return step

    def _finish(self) -> Path:
        latents, judge = self.validator.latents(), self.step.judge
        if self.accelerator.is_main_process:
            with self.validator.weights():
                finish(
                    self.step.model,
                    self.settings,
                    self.output,
                    latents=latents,
                    facts=self._facts(),
                    keep=None if judge is None else judge.keep,
                    say=self.report.say,
                )
        self.accelerator.wait_for_everyone()
        return self.output / TOKENIZER

    # --- parts ----------------------------------------------------------------------------------

    def _make_batches(self) -> Batches:
        settings = self.settings
        return Batches(
            self.split.source,
            self.split.train,
            settings.data,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            seed=settings.seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )

    def _make_report(self, resumed: bool) -> Report:
        return Report(
            self.output,
            speaks=self.accelerator.is_main_process,
            total=self.settings.steps,
            begun=self.begun,
            resume=resumed,
            trackers=Trackers(self.accelerator, self.settings, self.output, self.begun),
            unit="clip" if self.settings.data.frames > 1 else "img",
        )

    def _facts(self) -> Facts:
        return Facts(
            command=_command(),
            pictures=len(self.split.train),
            held_out=len(self.split.validation) if self.split.apart else 0,
            processes=self.accelerator.num_processes,
            hardware=_hardware(self.accelerator.device),
            precision=self._precision(),
            seconds=self.seconds,
            validation=self.found.figures if self.found else {},
            warnings=self.report.warnings,
        )

    def _precision(self) -> str:
        """What "auto" has become."""
        wanted = self.settings.precision
        automatic = "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32"
        return automatic if wanted == "auto" else wanted

    def _timed(self, stream: Iterator[Tensor]) -> Iterator[Tensor]:
        """The micro-batches of one step; how long they were waited for is noted."""
        for _ in range(self.settings.accumulate):
            began = time.perf_counter()
            pixels = next(stream)
            self.report.waited(time.perf_counter() - began)
            yield pixels


def _check_empty(output: Path) -> None:
    if checkpoints.listed(output / CHECKPOINTS):
        raise ConfigError(
            f"{output} holds a run already: go on with it by --resume {output}, or name another "
            "folder by --output"
        )


class _listening:
    """While it lasts, SIGINT and SIGTERM ask the run to stop after a step; a second one kills."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread, which is where signals go
                return

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.run.asked_to_stop = True
        for other, handler in self.before.items():
            signal.signal(other, handler)


def _command() -> list[str]:
    """As somebody would type it again."""
    if Path(sys.argv[0]).name == "vqtok":
        return ["vqtok", *sys.argv[1:]]
    launched = (
        ["accelerate", "launch"] if "ACCELERATE_MIXED_PRECISION" in os.environ else ["python"]
    )
    return [*launched, "-m", "vqtok.training", *sys.argv[1:]]


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"

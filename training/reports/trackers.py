"""Figures and pictures for TensorBoard, Weights & Biases and trackio, through accelerate."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import LoggerType, ProjectConfiguration

from vqtok.errors import MissingExtraError, UnknownNameError, did_you_mean
from vqtok.sheets import Pixels
from vqtok.training.reports.flat import flat_settings
from vqtok.training.settings import Settings

__all__ = ["TRACKERS", "Trackers", "check_trackers", "tracker_arguments"]

# The packages of which a tracker needs one.
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
PROJECT = "vqtok"
ID_FILE = "tracker-id"
LOGS = "logs"


def check_trackers(names: Iterable[str]) -> None:
    """Raises where a tracker has an unknown name, or what it needs is not installed."""
    known = set(LoggerType.list())
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError(
                f"there is no tracker called {name!r}. {did_you_mean(name, TRACKERS)}"
            )
        if not any(find_spec(package) for package in TRACKERS[name]):
            package = TRACKERS[name][0]
            raise MissingExtraError(
                f"the tracker {name!r} needs the package {package}: pip install {package}; or "
                "leave it out of the trackers, RUN/metrics.jsonl holds the same figures"
            )
        if name not in known:
            raise MissingExtraError(
                f"the tracker {name!r} needs a later accelerate: pip install -U accelerate"
            )


def tracker_arguments(names: list[str], run_dir: Path) -> dict[str, Any]:
    """What `accelerate.Accelerator` is given; checks the names first."""
    check_trackers(names)
    if not names:
        return {}
    place = ProjectConfiguration(project_dir=str(run_dir), logging_dir=str(run_dir / LOGS))
    return {"log_with": list(names), "project_config": place}


class Trackers:
    """The trackers that an accelerator was made with, by `tracker_arguments`; maybe none.

    With `resume`, the step that a run goes on from, theirs go on, too: wandb and trackio know a run
    by a file in its folder, and TensorBoard hides what it was told of later steps. On processes
    other than the main one every call does nothing.
    """

    def __init__(
        self, accelerator: Accelerator, settings: Settings, run_dir: Path, resume: int = 0
    ) -> None:
        self.accelerator = accelerator
        if not (settings.trackers and accelerator.is_main_process):
            return
        known = _id_of(run_dir)
        options = {
            "tensorboard": {"purge_step": resume + 1} if resume else {},
            "wandb": {
                "name": settings.name,
                "id": known,
                "resume": "allow",
                "dir": str(run_dir),
            },
            "trackio": {"name": f"{settings.name}-{known}", "resume": "allow"},
        }
        accelerator.init_trackers(PROJECT, None if resume else flat_settings(settings), options)

    def log(self, step: int, values: Mapping[str, float | str | None]) -> None:
        """Figures for all of them; what has no value is left out."""
        known = {name: value for name, value in values.items() if value is not None}
        self.accelerator.log(known, step=step)

    def images(self, step: int, pictures: Mapping[str, Pixels]) -> None:
        """Pictures (H, W, 3) by name, for those that take any: TensorBoard and wandb do."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                batch = {name: pixels[None] for name, pixels in pictures.items()}
                tracker.log_images(batch, step=step, dataformats="NHWC")
            elif tracker.name == "wandb":
                tracker.log_images({n: [pixels] for n, pixels in pictures.items()}, step=step)

    def close(self) -> None:
        """Writes what is left, and closes them."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []


def _id_of(run_dir: Path) -> str:
    """The run's own name among others, made once."""
    file = run_dir / ID_FILE
    if not file.is_file():
        run_dir.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    return file.read_text(encoding="utf-8")

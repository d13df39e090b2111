"""Names, what is installed, and what each tracker is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

from vqtok.errors import MissingExtraError, UnknownNameError
from vqtok.training.reports import trackers
from vqtok.training.reports.flat import flat_settings
from vqtok.training.reports.trackers import Trackers, check_trackers, tracker_arguments
from vqtok.training.settings import Data, Discriminator, Settings


class Told:
    """A tracker that writes down what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pictures: list[Any] = []
        self.finished = False

    def log_images(self, values: Any, step: int, **options: Any) -> None:
        if self.name == "trackio":
            raise AttributeError("it has no such method")
        self.pictures.append((values, step, options))

    def finish(self) -> None:
        self.finished = True


class Fake:
    """The part of an accelerator that trackers need."""

    def __init__(self, names: list[str], is_main_process: bool = True) -> None:
        self.names, self.is_main_process = names, is_main_process
        self.trackers: list[Told] = []
        self.told: list[Any] = []
        self.begun: list[Any] = []

    def init_trackers(self, *arguments: Any) -> None:
        self.begun.append(arguments)
        self.trackers = [Told(name) for name in self.names]

    def log(self, values: Any, step: int) -> None:
        self.told.append((step, values))


def made(names: list[str], folder: Path, **options: Any) -> tuple[Fake, Trackers]:
    fake = Fake(names)
    return fake, Trackers(fake, Settings(name="mine", trackers=names), folder, **options)  # type: ignore[arg-type]


def test_an_unknown_tracker_is_an_error() -> None:
    with pytest.raises(UnknownNameError) as error:
        check_trackers(["tensorboard", "wandbs"])
    assert str(error.value) == (
        "there is no tracker called 'wandbs'. Did you mean 'wandb'? Known: tensorboard, trackio, "
        "wandb."
    )


def test_what_a_tracker_needs_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError) as error:
        tracker_arguments(["trackio"], tmp_path)
    assert str(error.value) == (
        "the tracker 'trackio' needs the package trackio: pip install trackio; or leave it out of "
        "the trackers, RUN/metrics.jsonl holds the same figures"
    )
    # Either of two packages will do for TensorBoard.
    monkeypatch.setattr(trackers, "find_spec", lambda package: package == "tensorboardX" or None)
    check_trackers(["tensorboard"])


def test_an_accelerate_that_knows_no_such_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: package)
    monkeypatch.setattr(trackers, "LoggerType", SimpleNamespace(list=lambda: ["wandb"]))
    check_trackers(["wandb"])
    with pytest.raises(MissingExtraError) as error:
        check_trackers(["wandb", "trackio"])
    assert str(error.value) == (
        "the tracker 'trackio' needs a later accelerate: pip install -U accelerate"
    )


def test_without_trackers_nothing_is_made(tmp_path: Path) -> None:
    assert tracker_arguments([], tmp_path) == {}
    fake, none = made([], tmp_path / "run")
    none.log(1, {"loss": 1.0})
    none.images(1, {"pictures": np.zeros((2, 2, 3), np.uint8)})
    none.close()
    assert not fake.begun and not (tmp_path / "run").exists()


def test_other_processes_make_none(tmp_path: Path) -> None:
    fake = Fake(["wandb"], is_main_process=False)
    Trackers(fake, Settings(trackers=["wandb"]), tmp_path / "run").close()  # type: ignore[arg-type]
    assert not fake.begun and not (tmp_path / "run").exists()


def test_figures_go_to_all_and_pictures_to_those_that_take_them(tmp_path: Path) -> None:
    names = ["tensorboard", "wandb", "trackio"]
    fake, some = made(names, tmp_path)
    some.log(50, {"loss": 0.5, "lpips": None, "note": "x"})
    sheet = np.zeros((4, 6, 3), np.uint8)
    some.images(50, {"pictures": sheet})
    assert fake.told == [(50, {"loss": 0.5, "note": "x"})]
    board, wandb, trackio = fake.trackers
    ((values, step, options),) = board.pictures
    assert (values["pictures"].shape, step, options) == ((1, 4, 6, 3), 50, {"dataformats": "NHWC"})
    ((values, step, options),) = wandb.pictures
    assert (values["pictures"][0] is sheet, step, options) == (True, 50, {})
    assert trackio.pictures == []
    some.close()
    assert all(tracker.finished for tracker in (board, wandb, trackio)) and not fake.trackers


def test_a_resumed_run_goes_on_in_theirs(tmp_path: Path) -> None:
    first, _ = made(["wandb"], tmp_path)
    again, _ = made(["wandb"], tmp_path, resume=100)
    other, _ = made(["wandb"], tmp_path / "other")
    (project, settings, options), (_, nothing, later), (_, _, others) = (
        fake.begun[0] for fake in (first, again, other)
    )
    known = (tmp_path / "tracker-id").read_text()
    assert (project, settings["data.size"], nothing) == ("vqtok", 256, None)
    assert options["wandb"] == later["wandb"] | {"dir": str(tmp_path)}
    assert options["wandb"] == {
        "name": "mine",
        "id": known,
        "resume": "allow",
        "dir": str(tmp_path),
    }
    assert later["trackio"] == {"name": f"mine-{known}", "resume": "allow"}
    assert (options["tensorboard"], later["tensorboard"]) == ({}, {"purge_step": 101})
    assert others["wandb"]["id"] != known


def test_tensorboard_for_real(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = Settings(name="mine", trackers=["tensorboard"])
    accelerator = Accelerator(**tracker_arguments(settings.trackers, tmp_path))
    board = Trackers(accelerator, settings, tmp_path)
    board.log(50, {"train/loss": 0.5})
    board.log(100, {"train/loss": 0.25, "train/lpips": None})
    board.images(100, {"pictures": np.full((4, 6, 3), 200, np.uint8)})
    board.close()
    events = EventAccumulator(str(tmp_path / "logs" / "vqtok"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(50, 0.5), (100, 0.25)]
    (picture,) = events.Images("pictures")
    assert (picture.step, picture.width, picture.height) == (100, 6, 4)


def test_settings_as_single_values() -> None:
    settings = Settings(
        codebook={"dim": 8, "levels": [8, 5]},
        data=Data(path=["a", "b"], flip=False),
        discriminator=Discriminator(),
    )
    known = flat_settings(settings)
    assert known["codebook.dim"] == 8 and known["codebook.levels"] == "[8, 5]"
    assert known["data.path"] == '["a", "b"]' and known["discriminator.optimizer.lr"] == 1e-4
    assert "init" not in known
    own = flat_settings(settings, defaults=False)
    assert not own.keys() & {"data.size", "optimizer.lr", "steps"}
    assert own["discriminator"] == "{}"  # all of it has its default value, but it is there
    assert own["data.flip"] is False

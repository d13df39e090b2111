"""`vqtok train`, and `python -m vqtok.training`: from options to a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vqtok.commands.progress import say
from vqtok.errors import ConfigError, LoadError
from vqtok.training.layering import Choice
from vqtok.training.presets import (
    SETTINGS,
    Resolved,
    about,
    load_settings,
    parse_choice,
    presets,
    to_yaml,
)

__all__ = ["Request", "run"]

RUNS = Path("runs")
FINETUNE = "finetune"  # for --from, where nobody names another


@dataclass(frozen=True)
class Request:
    """The options of the verb."""

    config: str | None = None
    variant: str | None = None
    sets: tuple[str, ...] = ()
    init: str | None = None
    freeze: str | None = None
    output: Path | None = None
    resume: Path | None = None
    on_collapse: str | None = None


def run(request: Request, *, dry_run: bool = False, list_presets: bool = False) -> int:
    """Trains, or says what it would train; returns the exit status."""
    if list_presets:
        width = max(map(len, presets()))
        typer.echo("\n".join(f"{name:<{width}}  {about(name)}" for name in presets()))
        return 0
    settings, notes = _resolve(request)
    for note in notes if _is_first() else ():
        say(note)
    if dry_run:
        return _preview(settings)
    from vqtok.training.loop import train

    output = request.resume or request.output or RUNS / settings.name
    made = train(settings, output, request.resume is not None)
    if made == output:  # asked to stop before its end
        return 1
    if _is_first():
        typer.echo(str(made))
    return 0


def _resolve(request: Request) -> Resolved:
    variant = request.variant or "paper"
    if variant not in ("paper", "repo"):
        raise ConfigError(f"--as is paper or repo; got {variant!r}")
    choices = [*_options(request), *(parse_choice(text) for text in request.sets)]
    if request.resume is not None:
        return load_settings(_settings_of(request), choices)
    if request.config is None and request.init is None:
        raise ConfigError(
            "there is nothing to train yet: --config names a preset (--list shows them) or a YAML "
            "file, --from a tokenizer to go on from, --resume a run"
        )
    config = request.config or FINETUNE
    return load_settings(config, choices, variant="repo" if variant == "repo" else "paper")


def _settings_of(request: Request) -> Path:
    """The settings that a run to be resumed was begun with."""
    others = {
        "--config": request.config,
        "--as": request.variant,
        "--from": request.init,
        "--freeze": request.freeze,
        "--output": request.output,
    }
    given = [option for option, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            f"--resume goes on in the run's own folder with its own settings; leave out "
            f"{', '.join(given)} (--set still changes single ones)"
        )
    path = Path(str(request.resume)) / SETTINGS
    if not path.is_file():
        raise LoadError(f"{request.resume} is no run: it holds no {SETTINGS}")
    return path


def _options(request: Request) -> Iterator[Choice]:
    """The options that stand for settings."""
    if request.init is not None:
        yield Choice(("init",), request.init, f"--from {request.init}")
    if request.freeze is not None:
        parts = [part.strip() for part in request.freeze.split(",") if part.strip()]
        yield Choice(("freeze",), parts, f"--freeze {request.freeze}")
    if request.on_collapse is not None:
        yield Choice(("on_collapse",), request.on_collapse, f"--on-collapse {request.on_collapse}")


def _preview(settings: Any) -> int:
    """Settings that are a file again, with what is to be said of them as its comments."""
    from vqtok.training.outlook import outlook

    facts, missing = outlook(settings)
    typer.echo(to_yaml(settings), nl=False)
    for line in [*facts, *(f"missing: {text}" for text in missing)]:
        typer.echo(f"# {' '.join(line.split())}")
    return int(bool(missing))


def _is_first() -> bool:
    """Whether this process speaks for all that were launched with it."""
    return os.environ.get("RANK", "0") == "0"

"""`vqtok serve`, and `python -m vqtok.serve`: from options, variables and a file to a server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqtok.commands.setup import settings_from
from vqtok.errors import ConfigError, LoadError
from vqtok.serve.layers import Layer, environment, file_layer, flags, resolve
from vqtok.serve.settings import ServeSettings
from vqtok.serve.values import name_of_model
from vqtok.training.yamls import read_yaml

__all__ = ["Request", "run", "settings_of"]


@dataclass(frozen=True)
class Request:
    """The options of the verb; None is what it leaves open.

    tokenizer, name  the argument, and what it is called in paths
    models           NAME=TOKENIZER each
    config           a YAML file
    chosen           of the tokenizer, by names of `ModelSettings`; `settings` as NAME=VALUE each
    others           by names of `ServeSettings`
    """

    tokenizer: str | None = None
    name: str | None = None
    models: Sequence[str] = ()
    config: str | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)


def run(request: Request, default: str) -> int:
    """Serves until it is ended; the exit status."""
    settings = settings_of(request, os.environ, default)
    from vqtok.serve.main import run as serve

    return serve(settings)


def settings_of(request: Request, environ: Mapping[str, str], default: str) -> ServeSettings:
    """The settings; `default` is the tokenizer where nobody names one."""
    return resolve(
        [
            Layer({"models": default}, lambda key: "by default"),
            *([] if request.config is None else [_file(request.config)]),
            environment(environ),
            flags({"models": _models(request), **request.others}),
        ]
    )


def _file(name: str) -> Layer:
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LoadError(f"{name}, which --config names, cannot be read: {reason}") from error
    return file_layer(read_yaml(text, name), name)


def _models(request: Request) -> dict[str, Any] | None:
    """The models that the command line names, the argument first."""
    chosen = {key: value for key, value in request.chosen.items() if value is not None}
    found: dict[str, Any] = {}
    if request.tokenizer is not None:
        if "settings" in chosen:
            chosen["settings"] = settings_from(chosen["settings"])
        name = request.name or name_of_model(request.tokenizer)
        found[name] = {"tokenizer": request.tokenizer, **chosen}
    else:
        _check_none(request, chosen)
    for text in request.models:
        name, equals, tokenizer = text.partition("=")
        if not (name and equals and tokenizer):
            raise ConfigError(
                f"--model takes NAME=TOKENIZER, such as 'small=photo-tiny'; got {text!r}"
            )
        if name in found:
            raise ConfigError(f"--model {text}: there is another model called {name!r}")
        found[name] = tokenizer
    return found or None


def _check_none(request: Request, chosen: Mapping[str, Any]) -> None:
    """Raises where an option is about an argument that is not there."""
    given = ["name"] * (request.name is not None) + list(chosen)
    if given:
        option = {"settings": "set", "config": "tokenizer-config"}.get(given[0], given[0])
        raise ConfigError(
            f"--{option} is about the tokenizer that is the command's argument, and there is none; "
            "other models have their settings in the file that --config names"
        )

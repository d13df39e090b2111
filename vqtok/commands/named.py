"""From a verb's options to what `vqtok.offline` calls a tokenizer and a source."""

from __future__ import annotations

import os
from dataclasses import fields, replace

from vqtok.commands.setup import Setup
from vqtok.errors import ConfigError
from vqtok.hub import of_run
from vqtok.offline.here import Here, here
from vqtok.offline.job import SourceSpec
from vqtok.wanted import Wanted

__all__ = ["again", "named_by"]

PLACE = ("revision", "subfolder", "variant", "filename", "family", "config", "sets", "backend")


def named_by(setup: Setup) -> Wanted:
    """The tokenizer that the options name, of a training run's folder the run's."""
    return replace(setup, name=of_run(setup.name)).wanted()


def again(
    setup: Setup, out: str | os.PathLike[str], source: list[str] | None, kind: str | None
) -> Here:
    """A data set that is there; its tokenizer and source as it has them, unless options say else.

    setup  its name is None where --tokenizer is not given
    """
    named: str | None = setup.name
    if named is None:
        defaults = {each.name: each.default for each in fields(Setup)}
        for field in PLACE:
            if getattr(setup, field) != defaults[field]:
                option = "set" if field == "sets" else field
                raise ConfigError(f"--{option} is about the tokenizer that --tokenizer names")
    if kind is not None and not source:
        raise ConfigError("--kind is about what --source names")
    return here(
        os.fspath(out),
        source=SourceSpec(tuple(source), kind) if source else None,
        tokenizer=None if named is None else named_by(setup),
        device=setup.device,
    )

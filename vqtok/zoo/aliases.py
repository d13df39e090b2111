"""Names for well-known checkpoints of other projects; `aliases.toml` is the table."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Alias", "aliases"]


@dataclass(frozen=True, slots=True)
class Alias:
    """Where a checkpoint is published, and what is known of it.

    family     a name of `vqtok.checkpoints.FAMILIES`
    licence    of the weights
    repo       org/name on the hub, with `filename`, or `subfolder` for a folder there
    config     the YAML or JSON in `repo` that it was trained with
    settings   what no file there tells
    commit, sha256  of `repo` and of the file, where known
    address    a page to download it from, where it is on no hub
    seen       whether somebody has loaded the published file with this package
    """

    name: str
    family: str
    licence: str
    repo: str | None = None
    filename: str | None = None
    subfolder: str | None = None
    config: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    sha256: str | None = None
    address: str | None = None
    seen: bool = False

    @property
    def place(self) -> str:
        """Where it is, in a few words."""
        if self.address is not None:
            return self.address
        inside = self.filename or self.subfolder
        return f"{self.repo} {inside}" if inside else str(self.repo)


@cache
def aliases() -> dict[str, Alias]:
    """The table: name -> entry."""
    text = (files("vqtok.zoo") / "aliases.toml").read_text(encoding="utf-8")
    return {name: Alias(name=name, **entry) for name, entry in tomllib.loads(text).items()}

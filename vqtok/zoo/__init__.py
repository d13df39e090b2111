"""What travels in the package: small tokenizers, a folder each, and sample photographs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from vqtok.errors import LoadError
from vqtok.zoo.aliases import aliases

__all__ = ["bundled", "samples", "unknown"]


def bundled() -> dict[str, Path]:
    """The tokenizers in the package: name -> folder."""
    return {path.name: path for path in _entries("") if (path / "config.json").is_file()}


def unknown(name: str, known: Iterable[str]) -> LoadError:
    """The error for a bare name that is neither a folder nor one of the `known` bundled ones."""
    own = sorted(known)
    near = difflib.get_close_matches(name, [*own, *aliases()], n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return LoadError(
        f"there is no tokenizer called {name!r}, neither in the package nor as a folder. {hint}"
        f"In the package: {', '.join(own)}; `vqtok info --list` names other projects' checkpoints. "
        "On the hub, write org/name."
    )


def samples() -> list[Path]:
    """The sample photographs; `samples/SOURCES.md` beside them says whose they are."""
    return [path for path in _entries("samples") if path.suffix == ".jpg"]


def _entries(folder: str) -> list[Path]:
    return sorted(Path(str(entry)) for entry in (files("vqtok.zoo") / folder).iterdir())

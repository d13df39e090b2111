"""What travels in the package: small tokenizers, a folder each, and sample photographs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["bundled", "samples"]


def bundled() -> dict[str, Path]:
    """The tokenizers in the package: name -> folder."""
    return {path.name: path for path in _entries("") if (path / "config.json").is_file()}


def samples() -> list[Path]:
    """The sample photographs; `samples/SOURCES.md` beside them says whose they are."""
    return [path for path in _entries("samples") if path.suffix == ".jpg"]


def _entries(folder: str) -> list[Path]:
    return sorted(Path(str(entry)) for entry in (files("vqtok.zoo") / folder).iterdir())

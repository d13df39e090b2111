"""`visual_tokenizer_config.json`: how ids are laid out, and the print of each variant. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vqtok.errors import ConfigError, LoadError
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab

__all__ = ["CONFIG_FILE", "print_in", "read_config", "vocab_in", "write_config"]

CONFIG_FILE = "visual_tokenizer_config.json"
SCHEMA = "vqtok-tokenizer/1"


def write_config(folder: Path, vocab: VisualVocab, found: Fingerprint, variant: str | None) -> None:
    """Adds the print of one variant's weights to those that the folder names already."""
    prints = read_config(folder).get("fingerprints", {})
    prints[variant or "default"] = found.to_dict()
    config = {"schema": SCHEMA, "vocab": vocab.to_dict(), "fingerprints": prints}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """What `write_config` wrote, or nothing where it never did, as in a stock VQModel's folder."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadError(f"{file} is not JSON: {error}") from error
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if schema != SCHEMA:
        raise LoadError(f"{file} has the schema {schema!r}; this version reads {SCHEMA!r}")
    for name in ("vocab", "fingerprints"):
        if not isinstance(stored.get(name), dict):
            raise LoadError(f"{file} has no object called {name!r}")
    return dict(stored)


def vocab_in(folder: Path, stored: dict[str, Any]) -> VisualVocab | None:
    """The vocabulary in what `read_config` gave, if there is one."""
    if not stored:
        return None
    try:
        return VisualVocab.from_dict(stored["vocab"])
    except (ConfigError, LoadError) as error:
        raise LoadError(f"{folder / CONFIG_FILE}: {error}") from error


def print_in(folder: Path, stored: dict[str, Any], variant: str | None) -> Fingerprint | None:
    """The print of one variant in what `read_config` gave, if there is one."""
    named = stored.get("fingerprints", {}).get(variant or "default")
    if named is None:
        return None
    try:
        return Fingerprint.from_dict(named)
    except LoadError as error:
        raise LoadError(f"{folder / CONFIG_FILE}: {error}") from error

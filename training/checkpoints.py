"""Checkpoints: one file each, whole or not there, the newest few and the best.

A file is written under another name, flushed to the disk and renamed, so that a run killed at any
moment leaves the one before as it was. Pickle is never run: files are read as tensors and numbers.
"""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from vqtok.errors import LoadError

__all__ = ["listed", "newest", "prune", "read", "write"]

SCHEMA = "vqtok-checkpoint/1"
NAME = re.compile(r"step-(\d{8,})\.pt")


def write(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes the state after `step` steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob("*.tmp"):  # of a run that was killed
        left_over.unlink()
    file = folder / f"step-{step:08d}.pt"
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        torch.save({"schema": SCHEMA, "step": step, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    _flush_names(folder)
    return file


def read(file: Path) -> dict[str, Any]:
    """What `write` was given, with `step`; tensors lie on the CPU."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LoadError(f"{file} is not a readable checkpoint: {reason}") from error
    schema = state.get("schema") if isinstance(state, dict) else None
    if schema != SCHEMA:
        raise LoadError(f"{file} has the schema {schema!r}; this version reads {SCHEMA!r}")
    return dict(state)


def listed(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a folder with their steps, the oldest first."""
    if not folder.is_dir():
        return []
    named = ((NAME.fullmatch(file.name), file) for file in folder.iterdir())
    return sorted((int(match[1]), file) for match, file in named if match)


def newest(folder: Path) -> Path:
    """The last checkpoint; `LoadError` where there is none."""
    found = listed(folder)
    if not found:
        raise LoadError(f"{folder} holds no checkpoint to go on from")
    return found[-1][1]


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Removes all but the newest `keep` and the one of the step `best`."""
    for step, file in listed(folder)[:-keep]:
        if step != best:
            file.unlink()


def _flush_names(folder: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

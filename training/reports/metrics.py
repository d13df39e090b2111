"""`RUN/metrics.jsonl`: the figures of a run, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from vqtok.errors import InputError, LoadError

__all__ = ["FILE", "Kind", "MetricsFile", "Value", "read_metrics"]

FILE = "metrics.jsonl"
SCHEMA = "vqtok-metrics/1"
RESERVED = ("step", "kind", "nonfinite")

Kind = Literal["train", "validation", "event"]
Value = float | str | None


class MetricsFile:
    """An append-only file, each line of it flushed as it is written.

    A line is `{"step": 50, "kind": "train", "loss": .1, ...}`. JSON has no NaN and no infinity:
    these are null, and `nonfinite` lists their names. The first line names the schema.

    resume  the step that a run goes on from: lines of later steps, which a run that was killed
            left behind, are dropped, and so is a last line that was half written. With -1 all are.
            Without it the file is a new one.
    """

    def __init__(self, path: str | os.PathLike[str], resume: int | None = None) -> None:
        self.path = Path(path)
        if resume is None and self.path.exists():
            raise LoadError(
                f"{self.path} holds the figures of another run; resume that one, or take another "
                "folder"
            )
        if self.path.exists():
            _cut(self.path, -1 if resume is None else resume)
        self._file = self.path.open("a", encoding="utf-8")
        if not self._file.tell():
            self.write(0, "event", {"event": "start", "schema": SCHEMA})

    def write(self, step: int, kind: Kind, values: Mapping[str, Value]) -> None:
        """Adds a line."""
        taken = [name for name in RESERVED if name in values]
        if taken:
            raise InputError(f"a line of {FILE} has {taken[0]!r} for its own use; rename the value")
        line: dict[str, Any] = {"step": step, "kind": kind}
        line |= {name: _plain(value) for name, value in values.items()}
        lost = [name for name, value in values.items() if value is not None and line[name] is None]
        if lost:
            line["nonfinite"] = lost
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a file, without one at the end that is not whole."""
    return [values for _, values in _lines(Path(path))]


def _plain(value: Value) -> Value:
    if value is None or isinstance(value, str | int):
        return value
    number = float(value)  # numpy's numbers, too
    return number if math.isfinite(number) else None


def _cut(path: Path, last: int) -> None:
    """Leaves the whole lines up to the step `last`; a kill leaves the old file or the new one."""
    kept = "".join(text for text, values in _lines(path) if values["step"] <= last)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(kept, encoding="utf-8")
    beside.replace(path)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line with its line break, and what it holds."""
    texts = path.read_bytes().splitlines(keepends=True)
    for number, text in enumerate(texts, 1):
        try:
            values = json.loads(text)
            whole = text.endswith(b"\n") and isinstance(values["step"], int)
        except (ValueError, TypeError, KeyError):
            whole = False
        if whole:
            yield text.decode(), values
        elif number < len(texts):
            raise LoadError(f"{path}, line {number}, is no line of a run's figures; remove it")

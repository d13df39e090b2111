"""What came of a conversion, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SCHEMA", "Report", "by_reason"]

SCHEMA = "vqtok-conversion/1"
# How many names a line of the text lists.
SHOWN = 4


@dataclass(frozen=True)
class Report:
    """What was loaded, dropped and kept.

    origin          the file, in words
    family, title, licence  see `Family`
    tensors, parameters     that were loaded into the model, and the numbers in them
    dropped         reason -> keys of the source
    discriminator   how many tensors of one are kept beside the model, for fine-tuning
    new             training state of the model that the source has not; it is as at the start
    notes           quirks of the source, and what was done about each
    """

    origin: str
    family: str
    title: str
    licence: str
    tensors: int
    parameters: int
    dropped: dict[str, list[str]]
    discriminator: int
    new: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For conversion.json."""
        return {
            "schema": SCHEMA,
            "family": self.family,
            "title": self.title,
            "licence": self.licence,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "dropped": {reason: list(keys) for reason, keys in self.dropped.items()},
            "discriminator": self.discriminator,
            "training_state": list(self.new),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join(f"{label:<14}{text}" for label, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "source", self.origin
        yield "family", f"{self.family}: {self.title}"
        yield "licence", self.licence
        yield "loaded", f"{_count(self.tensors)}, {self.parameters / 1e6:.2f} M parameters"
        for reason, keys in self.dropped.items():
            yield "dropped", f"{_count(len(keys))} ({_shown(keys)}): {reason}"
        if self.discriminator:
            yield "kept", f"{_count(self.discriminator)} of a discriminator, for fine-tuning"
        if self.new:
            yield "missing", f"{_shown(self.new)}: training state, which starts anew"
        for note in self.notes:
            yield "note", note


def by_reason(dropped: Mapping[str, str]) -> dict[str, list[str]]:
    """key -> reason, as reason -> keys."""
    found: dict[str, list[str]] = {}
    for key, reason in dropped.items():
        found.setdefault(reason, []).append(key)
    return found


def _count(tensors: int) -> str:
    return f"{tensors} tensor{'s' * (tensors != 1)}"


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join([*listed[:SHOWN], *(["..."] if len(listed) > SHOWN else [])])

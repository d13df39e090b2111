"""Settings laid over each other, and the memory of who set what."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from vqtok.errors import ConfigError
from vqtok.training.settings import BROUGHT, Settings
from vqtok.zoo import samples

__all__ = ["SAMPLES", "Choice", "Layered"]

Path = tuple[str, ...]

# As a path: the photographs in the package.
SAMPLES = "<samples>"
# Keys of a file that are no settings.
BESIDES = ("about", "base", "as_repo")
# Maps that a file replaces as one: half of another file's weights is nobody's wish.
WHOLE = {("loss", "pixel")}
# Settings of a codebook that hold for every quantizer.
SHARED = ("size", "dim")
DEFAULTS = {"architecture": "cnn", "quantizer": "vector"}
# Of the paper's Gumbel baseline.
TEMPERATURE = {"start": 1.0, "end": 1 / 16}


class Choice(NamedTuple):
    """A value for a setting, and the file or option that says so."""

    path: Path
    value: Any
    origin: str


class Layered:
    """Nested settings, and for each value the file or option that it came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[Path, str] = {}

    def lay(self, values: Any, origin: str) -> list[str]:
        """Puts the settings of a file on top: maps are joined, other values replaced."""
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: a map of settings belongs here; got {values!r}")
        settings = {key: value for key, value in values.items() if key not in BESIDES}
        return self.choose([Choice(path, value, origin) for path, value in _leaves(settings)])

    def choose(self, choices: Sequence[Choice]) -> list[str]:
        """Sets values, each in the place of what was there; returns what else that changed."""
        assigned = {choice.path for choice in choices}
        notes = []
        for choice in choices:
            if self._is_another(choice):
                notes += _FALL_BACK[choice.path](self, choice, assigned)
        for choice in choices:
            self._set(choice)
        return notes

    def finished(self) -> dict[str, Any]:
        """The values, with those filled in that follow from others."""
        values = deepcopy(self.values)
        data = values.get("data")
        for anneal in _maps(values.get("anneal")):
            anneal.setdefault("steps", values.get("steps", Settings().steps))
        if isinstance(data, dict) and data.get("path") == SAMPLES:
            data["path"] = os.path.dirname(samples()[0])
        return values

    def _is_another(self, choice: Choice) -> bool:
        """Whether a choice makes settings that stand under it meaningless."""
        if choice.path not in _FALL_BACK or not self.values:
            return False
        name = choice.path[0]
        return bool(choice.value != self.values.get(name, DEFAULTS.get(name)))

    def _set(self, choice: Choice) -> None:
        holder = self.values
        for step in choice.path[:-1]:
            if not isinstance(holder.get(step), dict):
                holder[step] = {}
            holder = holder[step]
        holder[choice.path[-1]] = deepcopy(choice.value)
        self._forget_origins(choice.path)
        self.origins[choice.path] = choice.origin

    def _drop(self, paths: Iterable[Path], assigned: set[Path]) -> list[str]:
        """Takes values away; returns the keys of those that are not set anew."""
        gone = []
        for path in paths:
            *above, last = path
            holder = self.values
            for step in above:
                holder = holder.get(step, {})
            for leaf, value in _leaves({last: holder.pop(last, None)}, tuple(above)):
                if value not in (None, {}) and leaf not in assigned:
                    gone.append(".".join(leaf))
            self._forget_origins(path)
        return gone

    def _forget_origins(self, path: Path) -> None:
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]


def _another_quantizer(layered: Layered, choice: Choice, assigned: set[Path]) -> list[str]:
    """It starts from its own defaults, but for the size of its codebook."""
    old = layered.values.get("quantizer", DEFAULTS["quantizer"])
    codebook = layered.values.get("codebook")
    own = [key for key in codebook if key not in SHARED] if isinstance(codebook, dict) else []
    paths = [("codebook", key) for key in own]
    gone = layered._drop([*paths, ("anneal",), ("estimator",), ("estimator_args",)], assigned)
    notes = _dropped(choice, f"the quantizer {old!r}", gone)
    if choice.value != "gumbel":
        return notes
    for key, value in TEMPERATURE.items():
        layered._set(Choice(("anneal", "temperature", key), value, choice.origin))
    if not any(path[0] == "anneal" for path in assigned):
        notes.append(
            f"{choice.origin}: its temperature falls from 1 to 1/16 along the run, as in the "
            "paper (anneal.temperature)"
        )
    return notes


def _another_estimator(layered: Layered, choice: Choice, assigned: set[Path]) -> list[str]:
    old = layered.values.get("estimator")
    gone = layered._drop([("estimator_args",)], assigned)
    return _dropped(choice, f"the estimator {old!r}", gone)


def _another_architecture(layered: Layered, choice: Choice, assigned: set[Path]) -> list[str]:
    old = layered.values.get("architecture", DEFAULTS["architecture"])
    gone = layered._drop([("network",)], assigned)
    return _dropped(choice, f"the architecture {old!r}", gone)


def _another_start(layered: Layered, choice: Choice, assigned: set[Path]) -> list[str]:
    """A tokenizer to go on from brings its own network and codebook."""
    gone = layered._drop([(name,) for name in BROUGHT if (name,) not in assigned], assigned)
    names = ", ".join(dict.fromkeys(key.partition(".")[0] for key in gone))
    return [f"{choice.origin}: it has its own, so these are dropped: {names}"] if gone else []


def _dropped(choice: Choice, owner: str, gone: list[str]) -> list[str]:
    if not gone:
        return []
    return [f"{choice.origin}: the settings of {owner} are dropped: {', '.join(gone)}"]


_FALL_BACK: dict[Path, Callable[[Layered, Choice, set[Path]], list[str]]] = {
    ("architecture",): _another_architecture,
    ("quantizer",): _another_quantizer,
    ("estimator",): _another_estimator,
    ("init",): _another_start,
}


def _maps(values: Any) -> Iterator[dict[str, Any]]:
    if isinstance(values, dict):
        yield from (value for value in values.values() if isinstance(value, dict))


def _leaves(values: dict[str, Any], under: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Key path and value of everything that is no map, of empty maps and of `WHOLE` ones."""
    for key, value in values.items():
        path = (*under, key)
        if isinstance(value, dict) and value and path not in WHOLE:
            yield from _leaves(value, path)
        else:
            yield path, value

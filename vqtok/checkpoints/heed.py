"""Which settings a family reads, so that one which nothing reads is not passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from vqtok.errors import ConfigError, did_you_mean

__all__ = ["Heed", "look", "tells"]

_looked: ContextVar[set[str] | None] = ContextVar("looked", default=None)


def look(told: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """`told.get(name, default)`; the name is one that a message may propose."""
    return told[name] if tells(told, name) else default


def tells(told: Mapping[str, Any], name: str) -> bool:
    """`name in told`, and the same of the name."""
    names = _looked.get()
    if names is not None:
        names.add(name)
    return name in told


class Heed:
    """Settings, and which of the caller's own among them are looked at while it is entered.

    settings  those that were given, equal in every respect, for a family to read
    """

    def __init__(self, settings: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        self._keys: list[_Key] = []
        self._names: set[str] = set()
        self.settings = self._watched(settings, own, "")

    def __enter__(self) -> Heed:
        self._token = _looked.set(self._names)
        return self

    def __exit__(self, *error: object) -> None:
        _looked.reset(self._token)

    def check(self, family: str, origin: str) -> None:
        """Raises where one was not."""
        for key in self._keys:
            if not key.seen:
                raise ConfigError(
                    f"nothing of the family {family} reads the setting {key.path!r} for {origin}. "
                    f"{did_you_mean(str(key), self._names)}"
                )

    def _watched(
        self, settings: Mapping[str, Any], own: Mapping[str, Any], start: str
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in settings.items():
            mine = own.get(name)
            if name not in own:
                found[name] = value
            elif mine and isinstance(mine, Mapping):
                found[name] = self._watched(value, mine, f"{start}{name}.")
            else:
                self._keys.append(_Key(name))
                self._keys[-1].path = f"{start}{name}"
                found[self._keys[-1]] = value
        return found


class _Key(str):
    """A key of a dictionary that knows whether somebody looked for it.

    Not the dictionary, for families copy settings into others, and keys go along.
    """

    path = ""
    seen = False
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        equal = str.__eq__(self, other)
        if equal is True:
            self.seen = True
        return equal

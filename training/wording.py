"""What is wrong with settings, in a sentence each: where it stands, what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from vqtok.errors import ConfigError, did_you_mean
from vqtok.training.settings import Settings

__all__ = ["Origins", "check_settings"]

Path = tuple[str, ...]
# Who set what: the key path of a value -> a file, or an option as it was given.
Origins = Mapping[Path, str]

WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a map of settings",
}
MANY = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "of at most",
    "exclusiveMaximum": "below",
}
PLAIN = {None: "null", True: "true", False: "false"}


def check_settings(values: dict[str, Any], origins: Origins, name: str) -> Settings:
    """The settings, or a `ConfigError` with a line for each value that cannot be.

    A line begins with the origin of its value, or with `name` where that is unknown.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{_origin(path, origins, name)}: {text}" for path, text in _complaints(error, values)
        ]
    lines = list(dict.fromkeys(lines))
    if len(lines) > 1:  # sentences, for who prints them in one line
        lines = [line.rstrip(".") + "." for line in lines]
    raise ConfigError("\n".join(lines))


def _complaints(error: ValidationError, values: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for one in error.errors():
        place = _Place.of(one["loc"])
        key = ".".join(place.path)
        match one["type"]:
            case "value_error":
                text = str(one["ctx"]["error"])
                yield tuple(text.partition(" ")[0].split(".")), text
            case "extra_forbidden":
                path = (*place.path, str(one["loc"][-1]))
                yield path, _unknown(path, place.schema["properties"], values)
            case "missing":
                yield place.path[:-1], f"{key} is missing; it is {_phrase(place.schema)}"
            case _:
                value = _shown(_look_up(values, place.path))
                yield place.path, f"{key or 'a file'} is {_phrase(place.schema)}; got {value}"


def _unknown(path: Path, siblings: Iterable[str], values: dict[str, Any]) -> str:
    """A setting that does not exist, and where one of its name, or of a like name, does."""
    text = f"there is no setting {'.'.join(path)!r}."
    elsewhere = [*_keys(SCHEMA), *_held(values)]
    same = [".".join(key) for key in elsewhere if key[-1] == path[-1] and key != path]
    if same:
        return f"{text} Did you mean {_listed(list(dict.fromkeys(same)))}?"
    known = [".".join((*path[:-1], sibling)) for sibling in siblings]
    return f"{text} {did_you_mean('.'.join(path), known)}"


def _keys(schema: dict[str, Any], under: Path = ()) -> Iterator[Path]:
    """The key path of every setting that has a name of its own."""
    for name, inner in (_object(schema) or {}).get("properties", {}).items():
        path = (*under, name)
        yield path
        yield from _keys(inner, path)


def _held(values: dict[str, Any]) -> Iterator[Path]:
    """Key paths in the maps whose keys others name: of networks, codebooks, estimators."""
    for name in ("network", "codebook", "estimator_args"):
        inner = values.get(name)
        yield from ((name, key) for key in inner) if isinstance(inner, dict) else ()


class _Place(NamedTuple):
    """A setting: its key path, and what pydantic knows of it."""

    path: Path
    schema: dict[str, Any]

    @classmethod
    def of(cls, location: tuple[int | str, ...]) -> _Place:
        """As deep as settings have names: not into the items of a list or the sides of an `or`."""
        path: Path = ()
        schema = _object(SCHEMA) or {}
        for step in location:
            inner = _object(schema) or {}
            below = inner.get("properties", {}).get(step, inner.get("additionalProperties"))
            if not isinstance(below, dict):
                break
            path, schema = (*path, str(step)), below
        return cls(path, _object(schema) or schema)


def _object(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The map of settings that a schema describes, also where it may be null instead."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for side in schema.get("anyOf", ()):
        if found := _object(side):
            return found
    return schema if schema.get("type") == "object" else None


def _phrase(schema: dict[str, Any]) -> str:
    """What a value looks like, in words."""
    if "anyOf" in schema:
        return " or ".join(_phrase(side) for side in schema["anyOf"])
    if "enum" in schema:
        return _listed(schema["enum"])
    if schema.get("type") == "array":
        items = schema["items"]
        many = f"of {_listed(items['enum'])}" if "enum" in items else MANY[items["type"]]
        count = f"{schema['minItems']} " if "minItems" in schema else ""
        return f"a list {many}" if "enum" in items else f"a list of {count}{many}"
    bounds = [f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema]
    return " ".join([WORDS[schema.get("type", "object")], " and ".join(bounds)]).strip()


def _listed(names: list[str]) -> str:
    *first, last = (repr(name) for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def _look_up(values: Any, path: Path) -> Any:
    for step in path:
        values = values[step]
    return values


def _shown(value: Any) -> str:
    return PLAIN[value] if value is None or isinstance(value, bool) else repr(value)


def _origin(path: Path, origins: Origins, name: str) -> str:
    """Who set the value at `path`, the map around it, or the first thing inside it."""
    for end in range(len(path), 0, -1):
        if path[:end] in origins:
            return origins[path[:end]]
    inner = (origin for key, origin in origins.items() if path and key[: len(path)] == path)
    return next(inner, name)


SCHEMA = Settings.model_json_schema()

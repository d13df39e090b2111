"""Where values of settings come from, and who is named where one cannot be.

A flag stands over an environment variable (VQTOK_SERVE_ and the setting's name in capitals), that
over a file, that over the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from vqtok.errors import ConfigError, LoadError, did_you_mean
from vqtok.serve.complaints import complaints
from vqtok.serve.settings import PREFIX, ServeSettings

__all__ = ["Layer", "environment", "file_layer", "flags", "resolve"]


class Layer(NamedTuple):
    """Values of settings, and who says so: the origin of a key, or of a whole layer."""

    values: Mapping[str, Any]
    origin: Callable[[str], str]


def file_layer(values: Any, name: str) -> Layer:
    """What a YAML file holds, as it was read; None where that is nothing."""
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: a file is a map of settings; got {values!r}")
    if "api_key" in values:
        raise ConfigError(
            f"{name}: a key doesn't belong into settings; put it into a file of its own, which "
            f"api_key_file names, or into {PREFIX}API_KEY"
        )
    return Layer(values, lambda key: name)


def environment(environ: Mapping[str, str]) -> Layer:
    """Variables such as VQTOK_SERVE_PORT=8000."""
    values = {}
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            key = variable.removeprefix(PREFIX).lower()
            _check_variable(variable, key, text)
            values[key] = _typed(key, text)
    return Layer(values, lambda key: f"{PREFIX}{key.upper()}")


def flags(values: Mapping[str, Any]) -> Layer:
    """What a command line says, by names of settings; None is what it leaves open."""
    given = {key: _typed(key, value) for key, value in values.items() if value is not None}
    whole = "the command line"
    return Layer(given, lambda key: whole if key == "models" else f"--{key.replace('_', '-')}")


def _check_variable(variable: str, key: str, text: str) -> None:
    if text.startswith("tcp://") or key.startswith(("service_", "port_")):
        raise ConfigError(
            f"{variable} is what Kubernetes sets for a Service of that name; the pod needs "
            "enableServiceLinks: false, or the Service another name"
        )
    if key not in ServeSettings.model_fields:
        near = did_you_mean(variable, [PREFIX + name.upper() for name in _known()])
        raise ConfigError(f"there is no variable {variable}. {near}")


def _known() -> list[str]:
    return list(ServeSettings.model_fields)


def _typed(key: str, value: Any) -> Any:
    """Text as the number that the setting takes; what is none stays, for the complaint."""
    field = ServeSettings.model_fields.get(key)
    if not isinstance(value, str) or field is None:
        return value
    text = value.strip()
    for number in (int, float):
        if field.annotation in (number, number | None):
            try:
                return number(text)
            except ValueError:
                break
    return text


def resolve(layers: Sequence[Layer] = ()) -> ServeSettings:
    """Settings of layers, the last on top. A complaint names who set the value, key and value."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        origins |= {key: layer.origin(key) for key in layer.values}
    _take_key(values, origins)
    try:
        return ServeSettings.model_validate(values)
    except ValidationError as error:
        found = list(complaints(error))
    lines = [f"{origins[key]}: {text}" if key in origins else text for key, text in found]
    lines = list(dict.fromkeys(lines))
    if len(lines) > 1:  # sentences, for who prints them in one line
        lines = [line.rstrip(".") + "." for line in lines]
    raise ConfigError("\n".join(lines))


def _take_key(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Reads the key where a file is named, unless the environment holds one."""
    file = values.get("api_key_file")
    if not isinstance(file, str) or values.get("api_key") is not None:
        return
    where = f"{origins['api_key_file']}: {file}"
    try:
        key = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LoadError(f"{where} cannot be read: {reason}") from error
    if not key:
        raise ConfigError(f"{where} is empty; it holds the key that requests must carry")
    values["api_key"], origins["api_key"] = key, where

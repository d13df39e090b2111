"""What the settings beside a checkpoint say, read with care: people write them by hand.

YAML has `1e-8` as a string and an empty value as None. What cannot be read is a `ConfigError` that
names the setting, what is right, and what it says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vqtok.checkpoints.heed import look, tells
from vqtok.errors import ConfigError

__all__ = [
    "assumed",
    "check_told",
    "choice",
    "entropy_settings",
    "flag",
    "listed",
    "number",
    "numbers",
    "section",
    "whole",
]


def section(settings: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """The object at a path of names in settings; {} where there is none."""
    found: Any = settings
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def number(
    told: Mapping[str, Any],
    name: str,
    default: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
) -> float:
    """A setting that is a finite number, or `default` where there is none."""
    value = _float(look(told, name, default))
    if value is None or value < least or value <= above:
        bound = f" of at least {least:g}" if least > -math.inf else ""
        bound += f" above {above:g}" if above > -math.inf else ""
        raise _wrong(told, name, f"a number{bound}")
    return value


def numbers(
    told: Mapping[str, Any], name: str, default: Sequence[float], *, above: float = -math.inf
) -> tuple[float, ...]:
    """A setting that is a list of as many finite numbers as `default`, or that."""
    given = look(told, name, default)
    found = [_float(value) for value in given] if isinstance(given, list | tuple) else []
    whole = [value for value in found if value is not None and value > above]
    if len(whole) != len(default) or len(found) != len(default):
        bound = f" above {above:g}" if above > -math.inf else ""
        raise _wrong(told, name, f"a list of {len(default)} numbers{bound}")
    return tuple(whole)


def whole(told: Mapping[str, Any], name: str, default: int, *, least: int = 1) -> int:
    """A setting that is a whole number, or `default` where there is none."""
    value = _float(look(told, name, default))
    if value is None or not value.is_integer() or value < least:
        raise _wrong(told, name, f"a whole number of at least {least}")
    return int(value)


def flag(told: Mapping[str, Any], name: str, default: bool) -> bool:
    """A setting that is true or false, or `default` where there is none."""
    value = look(told, name, default)
    if not isinstance(value, bool):
        raise _wrong(told, name, "true or false")
    return value


def choice(told: Mapping[str, Any], name: str, default: str, known: Iterable[str]) -> str:
    """A setting that is one of the `known` names, or `default` where there is none."""
    value, names = look(told, name, default), list(known)
    if not isinstance(value, str) or value not in names:
        raise _wrong(told, name, f"one of {', '.join(names)}")
    return value


def check_told(told: Mapping[str, Any], name: str, shown: Any, origin: str) -> None:
    """Raises where settings contradict the shapes: a mistake that would show nowhere else."""
    said = look(told, name, shown)
    if (list(said) if isinstance(said, list | tuple) else said) != shown:
        raise ConfigError(
            f"the settings say {name}={said}, and the shapes in {origin} {name}={shown}: they "
            "belong to another checkpoint"
        )


def assumed(
    told: Mapping[str, Any], published: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings over those of the published checkpoints, and a note on what nothing tells."""
    left = {name: value for name, value in published.items() if not tells(told, name)}
    if not left:
        return dict(told), ()
    return {**left, **told}, (
        f"Nothing tells how it was trained: {listed(left)}, as of the published ones. Training "
        "alone depends on that.",
    )


def listed(values: Mapping[str, Any]) -> str:
    """Settings in a sentence: `a=1, b=2 and c=3`."""
    *some, last = (f"{name}={value}" for name, value in values.items())
    return f"{', '.join(some)} and {last}" if some else last


def entropy_settings(
    told: Mapping[str, Any], weight: float, sure_name: str, even_name: str
) -> dict[str, float]:
    """Our weights of an entropy loss, from the source's of the loss and of its two halves."""
    sure = number(told, sure_name, 1.0, above=0)
    even = number(told, even_name, 1.0, least=0)
    return {"entropy_loss_weight": weight * sure, "diversity_gamma": even / sure}


def _float(value: Any) -> float | None:
    """A finite number, in figures or as a string of them; None if it is none."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _wrong(told: Mapping[str, Any], name: str, right: str) -> ConfigError:
    return ConfigError(f"{name} is {right}; the settings of the checkpoint say {told.get(name)!r}")

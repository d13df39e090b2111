"""Settings as single values with dotted names, for trackers and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vqtok.training.settings import Settings

__all__ = ["flat_settings"]


def flat_settings(
    settings: Settings, *, defaults: bool = True
) -> dict[str, bool | int | float | str]:
    """Settings by the names that `--set` knows, `data.size` and so on; lists are JSON.

    What is not set is left out and, without `defaults`, so is what has its default value.
    """
    return dict(_flat(settings.model_dump(mode="json", exclude_defaults=not defaults), ""))


def _flat(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield before + name, json.dumps(value) if isinstance(value, dict | list) else value

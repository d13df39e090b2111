"""What is wrong with settings, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from vqtok.errors import did_you_mean
from vqtok.serve.settings import ModelSettings, ServeSettings

__all__ = ["complaints"]


def complaints(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(the setting that a complaint is about, what is wrong)"""
    for one in error.errors():
        # As deep as settings have names: not into the sides of an `or`.
        path = [str(step) for step in one["loc"]][: 3 if one["loc"][:1] == ("models",) else 1]
        key = ".".join(path)
        match one["type"]:
            case "value_error":
                text = str(one["ctx"]["error"])
                yield text.partition(" ")[0], text
            case "extra_forbidden":
                kind = ModelSettings if len(path) > 1 else ServeSettings
                # A key is no setting for where others are written.
                names = [name for name in kind.model_fields if name != "api_key"]
                known = [".".join((*path[:-1], name)) for name in names]
                yield path[0], f"there is no setting {key!r}. {did_you_mean(key, known)}"
            case "missing":
                yield path[0], f"{key} is missing; it is {_phrase(path)}"
            case _:
                yield path[0], f"{key} is {_phrase(path)}; got {one['input']!r}"


def _phrase(path: Sequence[str]) -> str:
    """What a setting looks like, in words."""
    if path[0] == "models" and len(path) == 2:
        return "the name of a tokenizer, or a map of its settings"
    fields = ModelSettings.model_fields if path[0] == "models" and len(path) > 2 else None
    field = fields[path[2]] if fields else ServeSettings.model_fields[path[0]]
    return str(field.description)

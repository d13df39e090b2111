"""What is kept as JSON: equal things are equal bytes, and what is read is checked."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vqtok.errors import LoadError

__all__ = ["Stored", "canonical", "compact"]


def canonical(value: Any) -> bytes:
    """JSON with sorted keys: equal values give equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def compact(value: Any) -> str:
    """As `canonical`, but on one line, without spaces and a line feed."""
    return json.dumps(
        value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False
    )


class Stored(BaseModel):
    """A frozen model with no more fields than it has, as canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(self.model_dump(by_alias=True))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """From what `to_bytes` gave; `name` is what errors call it."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"])
            what = cls.__name__.lower()
            raise LoadError(f"'{name}' is no {what}: {where}{first['msg']}") from None

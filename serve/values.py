"""How values of settings may be written: text where a file has numbers, short forms of lists."""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "KEY",
    "NAME",
    "ORIGIN",
    "as_bool",
    "as_bytes",
    "as_devices",
    "as_host",
    "as_models",
    "as_origins",
    "name_of_model",
]

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)")
WORDS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
# What may stand in a path as it is.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What browsers send as Origin, or any.
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?")
# What HTTP can carry within a header, without what would be cut off there.
KEY = re.compile(r"[!-~]+")


# Each takes what somebody wrote; what cannot be read is left to the complaint that follows.


def as_bool(value: Any) -> Any:
    """ "yes" and its like."""
    return WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value


def as_bytes(value: Any) -> Any:
    """ "64MB" as a number."""
    match = BYTES.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in UNITS:
        return value
    return int(float(match[1]) * UNITS[match[2]])


def as_host(value: Any) -> Any:
    """localhost, which has several addresses, as the one that all machines have."""
    return "127.0.0.1" if value == "localhost" else value


def as_devices(value: Any) -> Any:
    """[0, 1], as a file may have it, as "0,1"."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_origins(value: Any) -> Any:
    """A list, or words with commas, as a tuple."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(value) if isinstance(value, list) else value


def as_models(value: Any) -> Any:
    """NAME=TOKENIZER with commas, and tokenizers that are named and nothing else, written out."""
    if isinstance(value, str):
        value = _pairs(value)
    if not isinstance(value, dict):
        return value
    return {
        name: {"tokenizer": one} if isinstance(one, str) else one for name, one in value.items()
    }


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, tokenizer = part.strip().partition("=")
        if not equals:
            name, tokenizer = name_of_model(name), name
        if name in found:
            raise ValueError(
                f"models has two called {name!r}: {found[name]} and {tokenizer}; write "
                "NAME=TOKENIZER with another name"
            )
        found[name] = tokenizer
    return found


def name_of_model(tokenizer: str) -> str:
    """What a tokenizer is called in paths where nobody says: the last part of its own name."""
    parts = [part for part in re.split(r"[/\\]", tokenizer) if part not in ("", ".", "..", "~")]
    if len(parts) > 1 and parts[-1] == "tokenizer":  # of a training run
        parts.pop()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", parts[-1] if parts else "").strip("-._")
    return name or "tokenizer"

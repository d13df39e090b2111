"""`vqtok info --list`: the names that need no path. It is to be quick, so no torch here."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from vqtok.zoo import bundled
from vqtok.zoo.aliases import aliases

__all__ = ["run"]


def run(*, as_json: bool = False) -> None:
    """Prints the tokenizers in the package and the well-known checkpoints, a line each, or JSON."""
    typer.echo(json.dumps(_facts(), indent=2) if as_json else _table())


def _facts() -> dict[str, object]:
    entries = {name: asdict(alias) for name, alias in sorted(aliases().items())}
    return {"bundled": list(bundled()), "checkpoints": list(entries.values())}


def _table() -> str:
    rows = [("NAME", "FAMILY", "LICENCE", "SEEN", "WHERE")]
    for name, alias in sorted(aliases().items()):
        seen = "yes" if alias.seen else "no"
        rows.append((name, alias.family, alias.licence, seen, alias.place))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    unseen = "SEEN no: nobody has loaded the published file with this package yet."
    return "\n".join([*(f"{name}  in the package" for name in bundled()), *lines, unseen])

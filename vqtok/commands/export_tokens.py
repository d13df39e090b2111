"""`vqtok export-tokens`: a data set in the form that another trainer reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from vqtok.commands.progress import progress
from vqtok.commands.setup import settings_from
from vqtok.errors import plural
from vqtok.offline.exports import EXPORTS
from vqtok.offline.read import open_tokens

__all__ = ["run"]


def run(
    out: str,
    place: Path,
    to: str,
    sets: Sequence[str],
    views: str | None,
    *,
    overwrite: bool,
) -> None:
    """Writes the folder `place`, whole or not at all."""
    export = EXPORTS[to]
    options = settings_from(sets)
    chosen = None if views is None else [view for view in views.split(",") if view]
    tokens = open_tokens(out, views=chosen)
    with progress(len(tokens), "export", to_stdout=False) as advance:
        export(tokens, place, advance, overwrite=overwrite, **options)
    typer.echo(
        f"{place}: {plural(len(tokens), 'row')} of {out}, as {to} reads them; see origin.json"
    )

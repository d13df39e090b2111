"""`vqtok inspect`: a data set as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqtok.commands.named import again
from vqtok.commands.outputs import Pictures
from vqtok.commands.progress import note, say
from vqtok.commands.setup import Setup
from vqtok.errors import ConfigError, InputError, VqtokError, plural
from vqtok.offline.here import Here
from vqtok.offline.histogram import counted, usage_histogram
from vqtok.offline.inspect import contact_sheet
from vqtok.offline.ledger import read_plan, read_records
from vqtok.offline.read import open_tokens
from vqtok.offline.store import open_store

if TYPE_CHECKING:
    from vqtok.sources import Source

__all__ = ["run"]


def run(
    setup: Setup,
    out: str,
    source: list[str] | None,
    kind: str | None,
    sheet: str | None,
    histogram: str | None,
    *,
    rows: int,
    seed: int,
) -> None:
    """Writes a contact sheet, a plot of how codes are used, or both."""
    if sheet is None and histogram is None:
        raise ConfigError("say where to: --output sheet.png, --histogram usage.png, or both")
    places = {
        option: _place(option, path)
        for option, path in (("--output", sheet), ("--histogram", histogram))
        if path is not None
    }
    if histogram is not None:
        _histogram(out, places["--histogram"])
    if sheet is None:
        return
    found = again(setup, out, source, kind)
    tokens = open_tokens(out, partial=True)
    opened = _source(found, asked=source is not None)
    made = contact_sheet(tokens, found.tokenizer(), opened, rows, seed)
    places["--output"].save(made, places["--output"].place(""))


def _place(option: str, path: str) -> Pictures:
    places = Pictures(path)
    if not places.single:
        raise InputError(f"{option} is a .png file; got {path!r}")
    return places


def _source(found: Here, *, asked: bool) -> Source | None:
    """None where it is not here any more, unless somebody named it; that is said."""
    try:
        return found.open()
    except VqtokError as error:
        if asked:
            raise
        say(f"the sheet shows no sources: {error}")
        return None


def _histogram(out: str, places: Pictures) -> None:
    store = open_store(out)
    plan, records = read_plan(store), read_records(store)
    counts = counted(plan, records, out)
    title = f"Use of codes: {out}, by {plan.tokenizer.name}"
    places.save(usage_histogram(counts, title=title), places.place(""))
    note(f"{plural(len(records), 'shard')} counted")

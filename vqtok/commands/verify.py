"""`vqtok verify`: whether a data set is what it says it is."""

from __future__ import annotations

import re

import typer

from vqtok.commands.named import again
from vqtok.commands.progress import progress, say
from vqtok.commands.setup import Setup
from vqtok.errors import ConfigError, plural
from vqtok.offline.check import verify
from vqtok.offline.ledger import read_records
from vqtok.offline.read import open_tokens
from vqtok.offline.store import open_store

__all__ = ["run", "share_of"]


def run(
    setup: Setup,
    out: str,
    source: list[str] | None,
    kind: str | None,
    *,
    full: bool,
    sample: str | None,
) -> int:
    """Prints faults, or that there are none; returns the exit status."""
    share = None if sample is None else share_of(sample)
    store = open_store(out)
    faults = verify(store, full)
    for fault in faults:
        typer.echo(f"fault: {fault}")
    if faults:
        more = "; no row was made again" if share is not None else ""
        say(f"{plural(len(faults), 'fault')} in {out}{more}")
        return 1
    files = [file for record in read_records(store) for file in record.files]
    how = "checksums" if full else "names and sizes"
    typer.echo(f"{out}: {plural(len(files), 'file')}, plan, records and manifest agree ({how})")
    return 0 if share is None else _again(setup, out, source, kind, share)


def _again(setup: Setup, out: str, source: list[str] | None, kind: str | None, share: float) -> int:
    """Makes a share of the rows again and compares."""
    from vqtok.offline.verify import verify_sample

    found = again(setup, out, source, kind)
    opened, tok, tokens = found.open(), found.tokenizer(), open_tokens(out)
    count = max(1, round(share * len(tokens)))
    with progress(count, "verify", to_stdout=False) as advance:
        report = verify_sample(tokens, opened, tok, share=share, advance=advance)
    typer.echo(str(report))
    return 0 if report.ok else 1


def share_of(text: str) -> float:
    """1% or .01"""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"--sample is a share of the rows, such as 1% or 0.01; got {text!r}")
    return share

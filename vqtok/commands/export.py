"""`vqtok export`: a tokenizer as ONNX graphs, and what came of holding them against torch."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import typer

from vqtok.commands.progress import note, progress
from vqtok.commands.setup import Setup
from vqtok.export.api import checked, export
from vqtok.export.options import Options
from vqtok.hub import of_run

__all__ = ["run"]


def run(setup: Setup, output: str, options: Options) -> int:
    """Writes the folder, and prints a line for each thing to know of it."""
    checked(output, options)  # before a tokenizer is loaded, which may take a download
    # Where graphs are traced, and compared: that of every machine, in the arithmetic of ids.
    setup = replace(setup, name=of_run(setup.name), device="cpu", precision="ieee32")
    tok = setup.load()
    with _Shown() as shown:
        report = export(tok, output, options, progress=shown)
    typer.echo(str(report))
    return 0


class _Shown(ExitStack):
    """What goes on, for people at a terminal: a line for each file, and a bar for the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self._done = 0
        self._advance: Any = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """See `vqtok.export.job.Progress`."""
        if not total:
            note(f"writing {what}")
            return
        if self._advance is None:
            self._advance = self.enter_context(progress(total, "comparing", to_stdout=False))
        self._advance(done - self._done)
        self._done = done

"""The `vqtok` command: one verb a job. Each verb imports what it needs, so `--help` is quick."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from vqtok.cli import checkpoints, exporting, pictures, runs, serving, tokens
from vqtok.cli.app import app
from vqtok.commands.progress import say
from vqtok.errors import VqtokError

__all__ = ["app", "checkpoints", "exporting", "main", "pictures", "runs", "serving", "tokens"]

# Newer typers carry a click of their own, so the class is known by what it is the base of.
UsageError: Any = typer.BadParameter.__mro__[1]
PACKAGE = str(Path(__file__).parent.parent) + os.sep


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: a user's mistake is one line on standard error and exit status 2."""
    # Names of files may hold what a terminal's encoding does not.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _said():
            status = app(arguments, prog_name="vqtok", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has gone, and Python would flush once more, and complain, as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        typer.echo(f"vqtok: {mistake}", err=True)
        status = 2
    sys.exit(status)


@contextmanager
def _said() -> Iterator[None]:
    """While it lasts, warnings of this package are lines for people; those of others stay."""
    before = warnings.showwarning

    def show(message: Any, kind: Any, filename: str, *rest: Any) -> None:
        if issubclass(kind, UserWarning) and filename.startswith(PACKAGE):
            say(" ".join(str(message).split()))
        else:
            before(message, kind, filename, *rest)

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


def _mistake(error: Any) -> str | None:
    """One line on an error that people can do something about, None on one of this program's."""
    if isinstance(error, UsageError):
        text = " ".join(error.format_message().split()).rstrip(".")
        text += "" if text.endswith("?") else "."
        context = error.ctx
        return f"{text} See: {context.command_path} {context.help_option_names[0]}"
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or torchs:
        return (
            "out of memory; a smaller --batch-size or --size needs less, in training a smaller "
            "batch_size or data.size, or a larger accumulate"
        )
    known = isinstance(error, VqtokError | OSError)
    if not known:
        return None
    said = ". ".join([str(error), *getattr(error, "__notes__", ())])
    return said.replace("\n", " ")

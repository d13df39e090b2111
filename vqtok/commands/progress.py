"""What people at a terminal see of long work. Nothing of it goes to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer

__all__ = ["counted", "note", "progress", "say"]

Item = TypeVar("Item")


@contextmanager
def progress(total: int, label: str, *, to_stdout: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; gives a function that moves it on by a number of items.

    None is drawn where standard error is no terminal, for a single item, and where lines go
    `to_stdout` and that is the same terminal: those lines show how far the work is.
    """
    if total < 2 or not sys.stderr.isatty() or (to_stdout and sys.stdout.isatty()):
        yield lambda done: None
        return
    with typer.progressbar(length=total, label=label, show_pos=True, file=sys.stderr) as bar:
        yield bar.update


def counted(items: Iterable[Item], advance: Callable[[int], None]) -> Iterator[Item]:
    """The same items; calls advance(1) after each that was taken."""
    for item in items:
        yield item
        advance(1)


def note(message: str) -> None:
    """A line for people at a terminal, and nobody else."""
    if sys.stderr.isatty():
        say(message)


def say(message: str) -> None:
    """A line on standard error, in the place of a bar that may stand there."""
    erase = "\r\x1b[K" if sys.stderr.isatty() else ""
    typer.echo(f"{erase}vqtok: {message}", err=True)

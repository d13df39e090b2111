"""Standard error that no reader, or a reader that doesn't read, can stop a server by."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Patient", "be_patient", "hold_descriptors", "say"]

PIECE = 4096  # bytes that a pipe takes whole once it takes any
PATIENCE = 0.5  # seconds that it may be full


class Patient(io.TextIOBase):
    """Text to a file descriptor, of which is dropped what nobody takes in good time."""

    def __init__(self, end: int) -> None:
        self._end, self._patience = end, PATIENCE

    def write(self, text: str) -> int:
        """As of a file; it raises nothing."""
        data = text.encode(errors="replace")
        with suppress(OSError):
            while data and self._is_taken():
                data = data[os.write(self._end, data[:PIECE]) :]
        return len(text)

    def _is_taken(self) -> bool:
        """Once it has waited in vain, it asks without waiting until there is room."""
        look = select.poll()  # one of its own, as threads write at once
        look.register(self._end, select.POLLOUT)
        found = bool(look.poll(1000 * self._patience))
        self._patience = PATIENCE if found else 0.0
        return found

    def fileno(self) -> int:
        return self._end

    def isatty(self) -> bool:
        return os.isatty(self._end)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"


def be_patient() -> None:
    """From now on standard error is `Patient`, where it is a file at all."""
    with suppress(AttributeError, OSError, ValueError):  # none, or a test's
        sys.stderr = Patient(sys.stderr.fileno())


@contextmanager
def hold_descriptors() -> Iterator[None]:
    """Where a program was started without standard streams, their numbers are taken: a pipe of the
    server's would get them, and whatever a library prints. Standard error is `Patient` meanwhile.
    """
    before = sys.stderr
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    be_patient()
    try:
        yield
    finally:
        sys.stderr = before


def say(text: str) -> None:
    """A line for people."""
    if sys.stderr is not None:  # or print would take standard output
        with suppress(OSError):
            print(f"vqtok: {text}\n", end="", file=sys.stderr, flush=True)  # in one piece

"""How the processes of a server live and end together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection

__all__ = ["cores", "ended_by", "hush", "interrupts_held", "leave_with_parent", "say"]

POISONED = 70  # the status of a worker whose device takes nothing more


def say(text: str) -> None:
    """A line for people."""
    print(f"vqtok: {text}", file=sys.stderr, flush=True)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_with_parent() -> None:
    """From now on this process ends when the one that started it has, whatever it is at."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes that are started meanwhile see no SIGINT until they unblock it.

    A terminal sends it to all processes at once, and Python would answer with a traceback each.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hush() -> None:
    """LitServe prints to standard output, where only the lines of requests belong."""
    logger = logging.getLogger("litserve")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("vqtok: %(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.ERROR)


def ended_by(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "still running"
    if status == POISONED:
        return "its device failed"
    return signal.Signals(-status).name if status < 0 else f"status {status}"

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
from multiprocessing import connection, resource_tracker

from vqtok.serve.worker import POISONED

__all__ = ["cores", "ended_by", "hush", "interrupts_held", "leave_with_parent"]

LOOK = 1.0  # seconds between looks at whose child this is


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_with_parent() -> None:
    """From now on this process ends when the one that started it has, whatever it is at."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel, started_by = parent.sentinel, parent.pid

    def watch() -> None:
        # Brothers and sisters hold the other end of the sentinel, too: one that is stopped would
        # keep all others.
        while not connection.wait([sentinel], LOOK) and os.getppid() == started_by:
            pass
        os._exit(1)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes that are started meanwhile see no SIGINT until they unblock it.

    A terminal sends it to all processes at once, and Python would answer with a traceback each.
    """
    resource_tracker.ensure_running()  # or the first process would start it, which unblocks SIGINT
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
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # those of real time have no names
        return f"signal {-status}"

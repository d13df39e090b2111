"""What the processes of the engine "local" run."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from vqtok.errors import VqtokError
from vqtok.offline.job import Job, Making
from vqtok.offline.shard_loop import Begun, ShardLoop, device_of

__all__ = ["serve"]

TICK = 0.02
SIGNS = 4  # signs of life in the time of a lease
MOST = 1.0  # seconds between two of them, so that people see how it goes


def serve(job: Job, making: Making, place: int, pipe: Connection) -> None:
    """Makes the shards that come through the pipe, and says what becomes of them.

    "ready" once, then "beat" with the shard and its rows by now while it works; "made" when it
    wants the next, and "done" when that shard is written; or "held", where somebody else has it.
    "refused" comes with an error that another process would meet as well; "crashed" with the text
    of any other, after which this process ends, as nobody knows what state it is in.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it sees to its end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(("ready", None))
        _work(ShardLoop(job, making, device_of(job.device, place)), pipe, job.lease / SIGNS)
    except (EOFError, ConnectionError):
        return
    except VqtokError as error:
        pipe.send(("refused", _plain(error)))
    except Exception as error:
        pipe.send(("crashed", " ".join(f"{type(error).__name__}: {error}".split())))
        raise


def _work(loop: ShardLoop, pipe: Connection, seconds: float) -> None:
    signs = _Signs(pipe, min(seconds, MOST))
    last: Begun | None = None
    while True:
        if last is None or pipe.poll(0 if last.writing.done() else TICK):
            shard = pipe.recv()
            begun = loop.begin(shard, partial(signs, shard))
            pipe.send(("held" if begun is None else "made", shard))
        elif last.writing.done():
            begun = None
        else:
            continue
        if last is not None:
            loop.settle(last)
            pipe.send(("done", last.shard))
        last = begun


def _plain(error: VqtokError) -> VqtokError:
    """One that can be pickled, whatever it holds."""
    return type(error)(str(error))


class _Signs:
    """Tells through a pipe that work goes on, now and then."""

    def __init__(self, pipe: Connection, seconds: float) -> None:
        self._pipe, self._seconds = pipe, seconds
        self._last = 0.0

    def __call__(self, shard: int, rows: int) -> None:
        now = time.monotonic()
        if now - self._last > self._seconds:
            self._last = now
            self._pipe.send(("beat", (shard, rows)))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

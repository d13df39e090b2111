"""One line of JSON a request, on standard output."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time
import traceback
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from vqtok.serve.http.exchange import Exchange

__all__ = ["Log", "line_of", "trace_of"]

SOON = 0.02  # seconds that lines wait for others: a write is a system call, which costs more
WAITING = 256  # times so many lines wait for a reader; what comes then is dropped
LAST = 0.5  # seconds that the last lines have


class Log:
    """Lines are written a few at a time, each whole, as several processes may write to one file.

    A thread writes, for a pipe that nobody empties, or a disk that hangs, would stop the loop.
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted and sys.stdout is not None
        self._lines: list[bytes] = []
        self._writer: _Writer | None = None

    def write(self, line: dict[str, Any]) -> None:
        """One line, soon."""
        if not self.wanted:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(SOON, self._hand_over)
        self._lines.append(_json(line))

    def flush(self) -> None:
        """What waits, now; as far as somebody reads it."""
        self._hand_over()
        if self._writer is not None:
            self._writer.wait(LAST)

    def _hand_over(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._writer = self._writer or _Writer()
            self._writer.put(lines)


class _Writer:
    """Writes to standard output in its own thread, as fast as that is read."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[list[bytes]] = queue.Queue(WAITING)
        self._dropped = 0
        self._failed = False
        threading.Thread(target=self._run, name="vqtok-log", daemon=True).start()

    def put(self, lines: list[bytes]) -> None:
        """Doesn't wait: where too many do, these are dropped, and counted."""
        try:
            self._waiting.put_nowait(lines)
        except queue.Full:
            self._dropped += len(lines)

    def wait(self, seconds: float) -> None:
        """Until all is written, or this time has passed."""
        end = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.005)

    def _run(self) -> None:
        while True:
            lines = self._waiting.get()
            dropped, self._dropped = self._dropped, 0
            if dropped:
                text = f"{dropped} lines were dropped, for nobody read them in time"
                lines.append(_json({"time": _now(), "level": "warning", "error": text}))
            self._write(b"".join(lines))
            self._waiting.task_done()

    def _write(self, data: bytes) -> None:
        try:
            _put(data)
            self._failed = False
        except (OSError, ValueError) as error:
            if not self._failed and sys.stderr is not None:  # once, not for each line
                reason = getattr(error, "strerror", None) or error
                print(f"vqtok: lines of requests cannot be written: {reason}", file=sys.stderr)
            self._failed = True


def _put(data: bytes) -> None:
    """To the file itself: a lock on Python's buffer, in a thread that waits, would outlast it."""
    try:
        end = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # not a file, as in tests
        sys.stdout.write(data.decode())
        return
    while data:
        data = data[os.write(end, data) :]


def _json(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def line_of(x: Exchange, seconds: float) -> dict[str, Any]:
    """What is told of a request that is over; never what it carried, nor its query."""
    client = x.scope.get("client")
    told = {
        "time": _now(),
        "id": x.id,
        "method": x.method,
        "path": x.path[:200],
        "status": x.status,
        "ms": round(seconds * 1000, 2),
        "pictures": x.pictures,
        "bytes_in": x.got,
        "bytes_out": x.sent,
        "model": x.model,
        "client": client[0] if client else None,
    }
    if x.error:
        told["error"] = x.error
    return told


def trace_of(x: Exchange, error: BaseException) -> dict[str, Any]:
    """An error that nobody foresaw, with where it came from."""
    trace = "".join(traceback.format_exception(error))
    return {"time": _now(), "id": x.id, "level": "error", "error": repr(error), "trace": trace}


def _now() -> str:
    seconds = time.time()
    return f"{_stamp(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(1)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))

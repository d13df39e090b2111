"""One line of JSON a request, on standard output."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from vqtok.serve.http.exchange import Exchange

__all__ = ["Log", "line_of", "trace_of"]

SOON = 0.02  # seconds that lines wait for others: a write is a system call, which costs more


class Log:
    """Lines are written a few at a time, each whole, as several processes may write to one file."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._lines: list[bytes] = []

    def write(self, line: dict[str, Any]) -> None:
        """One line, soon."""
        if not self.wanted:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(SOON, self.flush)
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """What waits, now."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()


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

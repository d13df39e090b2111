"""When a request is sent again. All that a server of tokens does is pure, so any may be."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["AGAIN", "LATE", "PASSING", "Attempts", "Patience"]

LATE = 504
# Of a server that is full, or is being started again: what takes its time, and then passes. It
# says when to come back, but where workers have died over a request.
PASSING = frozenset({429, 503})
# What another moment, or another replica, may answer better.
AGAIN = PASSING | {502, LATE}
FIRST = 0.1  # seconds, doubled with each failure
LONGEST = 2.0


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    timeout  seconds for a request with all that it is sent again
    retries  how often it is sent again after a failure. What passes with time is asked again until
             the timeout and is none: no connection, 429 and 503 that say when to come back. With 0
             nothing is sent again
    """

    timeout: float
    retries: int
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random  # from [0, 1)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def start(self) -> Attempts:
        """For a request that is sent now."""
        return Attempts(self, self.clock() + self.timeout)


@dataclass
class Attempts:
    """One request's."""

    patience: Patience
    deadline: float
    failures: int = field(default=0)
    waits: int = field(default=0)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.patience.clock()

    @property
    def tries(self) -> int:
        """How often it was sent in vain."""
        return self.failures + self.waits

    def pause(self, headers: Mapping[str, str], *, failed: bool) -> float | None:
        """Seconds to wait before the next attempt; None where there is none.

        failed  whether this is one of the failures that `retries` counts
        """
        if failed:
            self.failures += 1
        else:
            self.waits += 1
        if self.failures > self.patience.retries or not self.patience.retries:
            return None
        wait = self._backoff(_seconds(headers.get("retry-after")))
        return wait if wait < self.left else None

    def _backoff(self, asked: float | None) -> float:
        """Never less than the server asked for; spread, so that clients don't come back at once."""
        longest = min(LONGEST, FIRST * 2.0 ** min(self.tries - 1, 10))
        if asked is None:
            return longest * (0.5 + 0.5 * self.patience.jitter())
        return asked + min(longest, max(asked, FIRST)) * 0.5 * self.patience.jitter()


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After header; a date, which servers of tokens don't send, is as good as none."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None

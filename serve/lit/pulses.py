"""Signs of life of API processes."""

from __future__ import annotations

import time

from vqtok.serve.shared import Shared

__all__ = ["Pulses"]


class Pulses(Shared):
    """For each API process when its loop went round last, by `time.monotonic()`; 0 before."""

    def __init__(self, count: int) -> None:
        super().__init__(8 * count)
        self._times = self.floats(0, count)

    def beat(self, api: int) -> None:
        """The loop of this one goes round."""
        self._times[api] = time.monotonic()

    def last(self, api: int) -> float:
        """When it did; 0 of a process that doesn't answer yet."""
        return float(self._times[api])

"""What every process of a server can see of the others: how it goes, and how the workers are."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

from vqtok.errors import UnknownNameError, did_you_mean
from vqtok.serve.shared import Shared

__all__ = ["Board", "Phase", "Seat", "watch_exit"]

# Numbers of a seat: pid, generation, ready, beat, busy_since, restarts.
FIELDS = 8
PID, GENERATION, READY, BEAT, BUSY, RESTARTS = range(6)
# Seconds between looks at a process where the system doesn't tell of its end.
LOOK = 1.0


class Phase(IntEnum):
    """STARTING until every model can answer; LEAVING: not ready, work is taken; DRAINING: none."""

    STARTING = 0
    READY = 1
    LEAVING = 2
    DRAINING = 3


class Seat:
    """The place of one worker; whoever works there after a death has the next generation.

    Times are `time.monotonic()`, which all processes of a machine share. The worker writes, but
    for `restarts`, which is the supervisor's.
    """

    def __init__(self, numbers: memoryview[float], first: int) -> None:
        self._numbers, self._first = numbers, first

    def _get(self, field: int) -> float:
        return float(self._numbers[self._first + field])

    def _set(self, field: int, value: float) -> None:
        self._numbers[self._first + field] = value

    def take(self) -> int:
        """Sit down, not ready yet; the generation that is this worker's."""
        self._set(READY, 0)
        self._set(BUSY, 0)
        self._set(PID, os.getpid())
        self._set(GENERATION, self.generation + 1)
        self.beat()
        return self.generation

    def beat(self) -> None:
        """Something went on: the worker lives, and a batch that it is busy with has not hung."""
        now = time.monotonic()
        self._set(BEAT, now)
        if self._get(BUSY):
            self._set(BUSY, now)

    def pulse(self) -> None:
        """The worker lives; says nothing about its batch."""
        self._set(BEAT, time.monotonic())

    def busy(self) -> None:
        """A batch begins."""
        self._set(BUSY, time.monotonic())

    def idle(self) -> None:
        """A batch has ended."""
        self._set(BUSY, 0)
        self.pulse()

    @property
    def pid(self) -> int:
        return int(self._get(PID))

    @property
    def generation(self) -> int:
        return int(self._get(GENERATION))

    @property
    def ready(self) -> bool:
        return bool(self._get(READY))

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._set(READY, ready)

    @property
    def last_beat(self) -> float:
        return self._get(BEAT)

    @property
    def busy_since(self) -> float:
        """When the batch under way began, or last made progress; 0 for none."""
        return self._get(BUSY)

    @property
    def restarts(self) -> int:
        return int(self._get(RESTARTS))

    def restarted(self) -> None:
        """The supervisor starts another worker here, which takes the seat once it is warm."""
        self._set(READY, 0)
        self._set(BUSY, 0)
        self._set(RESTARTS, self.restarts + 1)


class Board(Shared):
    """The phase of the server, and a seat for each worker of each model.

    workers  name of a model -> how many workers it has
    """

    def __init__(self, workers: Mapping[str, int]) -> None:
        self.workers = dict(workers)
        super().__init__(8 * self._count)
        self._views()

    @property
    def _count(self) -> int:
        return 1 + FIELDS * sum(self.workers.values())

    def _views(self) -> None:
        self._numbers = self.floats(0, self._count)
        self._seats: dict[str, list[Seat]] = {}
        first = 1
        for model, count in self.workers.items():
            places = range(first, first + count * FIELDS, FIELDS)
            self._seats[model] = [Seat(self._numbers, place) for place in places]
            first += count * FIELDS

    @property
    def phase(self) -> Phase:
        return Phase(int(self._numbers[0]))

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._numbers[0] = phase

    def seats(self, model: str) -> list[Seat]:
        """The seats of a model's workers."""
        if model not in self._seats:
            raise UnknownNameError(
                f"there is no model called {model!r} here. {did_you_mean(model, self._seats)}"
            )
        return self._seats[model]

    def seat(self, model: str, worker: int) -> Seat:
        """The seat of one worker."""
        return self.seats(model)[worker]

    def up(self, model: str, patience: float = 5.0) -> int:
        """How many workers of a model are ready, and were alive `patience` seconds ago."""
        since = time.monotonic() - patience
        return sum(seat.ready and seat.last_beat >= since for seat in self.seats(model))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "workers": self.workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.workers = state["workers"]
        self._views()


def watch_exit(
    loop: asyncio.AbstractEventLoop, pid: int, ended: Callable[[], None]
) -> Callable[[], None]:
    """Call `ended` once the process is gone; the function that is returned ends the watch."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return loop.call_soon(ended).cancel
    except (AttributeError, OSError):
        return _look(loop, pid, ended)

    def stop() -> None:
        nonlocal descriptor
        if descriptor >= 0:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            descriptor = -1

    def gone() -> None:
        stop()
        ended()

    loop.add_reader(descriptor, gone)
    return stop


def _look(
    loop: asyncio.AbstractEventLoop, pid: int, ended: Callable[[], None]
) -> Callable[[], None]:
    """`watch_exit` where there are no pidfds."""
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            ended()
        else:
            timer = loop.call_later(LOOK, look)

    timer = loop.call_later(LOOK, look)
    return lambda: timer.cancel()

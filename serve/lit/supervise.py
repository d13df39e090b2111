"""The end of a server, and what leads to it: signals, dead API processes, workers that hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Self

from vqtok.serve.board import Phase
from vqtok.serve.lit.family import ended_by
from vqtok.serve.lit.streams import say

if TYPE_CHECKING:
    from vqtok.serve.board import Seat
    from vqtok.serve.lit.server import Server

__all__ = ["Signals", "Stopped", "Supervisor"]

HANDLED = (signal.SIGTERM, signal.SIGINT)
# Seconds between looks at workers.
LOOK = 0.25
# Seconds between signs of life of a worker that has nothing to do, by far.
IDLE = 5.0
# Seconds that an API process has until it answers, which takes it one.
OPENS = 60.0
# How the names of LitServe's processes begin.
OURS = ("inference-worker", "LitServer-")
# What an API process gets beyond the deadline of its last request.
GRACE = 5.0
AT_ONCE = 130  # the status after a second SIGINT


class Stopped(BaseException):
    """A signal came before there was anything to finish."""


class Signals:
    """SIGTERM and SIGINT, from the first moment on, for a process without handlers that is PID 1
    of a container sees neither.

    Before `given_to` somebody they raise `Stopped` in the main thread; after it they are in
    `asked`, and `reader` is readable.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._owner = os.getpid()
        self._kill: Callable[[], None] | None = None
        self.reader, self._writer = os.pipe()
        for end in (self.reader, self._writer):  # nobody reads at the end
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._came) for number in HANDLED}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def given_to(self, kill: Callable[[], None]) -> None:
        """From now on somebody looks at `asked`; `kill` ends everything at once."""
        self._kill = kill

    def _came(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked child; it has handlers of its own while there is work
        if self._kill is None:
            raise Stopped
        if number == signal.SIGINT and signal.SIGINT in self.asked:
            self._kill()
            os._exit(AT_ONCE)
        self.asked.append(number)
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def heard(self) -> bool:
        """Whether something was asked; `reader` is quiet again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 64)
        return bool(self.asked)


class Supervisor:
    """A thread of the main process. LitServe replaces workers; this one does all else.

    status  that the server is to exit with
    """

    def __init__(self, server: Server) -> None:
        self.server, self.signals, self.settings = server, server.signals, server.settings
        self.board, self.pulses = server.office.board, server.office.pulses
        self.notes = server.notes
        self.status = 0
        self._failed: str | None = None
        self._apis: Sequence[BaseProcess] = ()
        self._awake = self._looked = self._began = time.monotonic()

    def start(self, apis: Sequence[BaseProcess]) -> None:
        """Begins, with the API processes running."""
        self._apis, self._began = apis, time.monotonic()
        threading.Thread(target=self._run, name="supervisor", daemon=True).start()

    def fail(self, reason: str) -> None:
        """The server is to end, and whoever started it to start another."""
        if self._failed is None and self.board.phase < Phase.DRAINING:
            self._failed = reason

    def kill(self) -> None:
        """Ends all other processes at once."""
        for process in multiprocessing.active_children():
            if process.name.startswith(OURS):
                process.kill()

    def _run(self) -> None:
        try:
            self._watch()
            if self._failed is None:
                self._leave()
            if self._failed is not None:
                say(f"{self._failed}; the server ends")
                self.status = 1
            self._drain()
        except BaseException:
            self.status = 1
            self.kill()
            raise
        finally:
            self._end()

    def _watch(self) -> None:
        """Until there is a reason to end."""
        while self._failed is None and not self._wait(LOOK):
            self._look()

    def _wait(self, seconds: float) -> bool:
        """Whether a signal came, or an API process ended, before this time had passed."""
        sentinels = {process.sentinel: process for process in self._apis}
        found = connection.wait([*sentinels, self.signals.reader], seconds)
        for sentinel in found:
            if sentinel in sentinels:
                process = sentinels[sentinel]
                process.join()
                self.fail(f"an API process ended ({ended_by(process.exitcode)})")
                return True
        return bool(found) and self.signals.heard()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked > IDLE:  # the whole group was stopped, or the machine
            self._awake = now
        self._looked = now
        if self.board.phase is Phase.STARTING and self._is_up():
            self.board.phase = Phase.READY
            self.server.say_serving()
        for (model, number), process in self.server.workers.items():
            if process.is_alive():
                self._look_at(model, number, process)
        for number, process in enumerate(self._apis):
            self._look_at_api(process, self.pulses.last(number))

    def _look_at_api(self, process: BaseProcess, beat: float) -> None:
        """Ends the server where one hangs, or never came to answer: who connects waits in vain."""
        if not beat and self._silent(self._began) > OPENS:
            self.fail(f"an API process does not answer {OPENS:g} s after its start")
            process.kill()
        elif beat and self._silent(beat + IDLE) > self.settings.hangs_after:
            self.fail("an API process hangs")
            process.kill()

    def _look_at(self, model: str, number: int, process: BaseProcess) -> None:
        """Ends a worker that is at one thing for too long; LitServe starts another."""
        seat = self.board.seat(model, number)
        if seat.ready and seat.pid == process.pid:
            if self._silent(seat.busy_since or seat.last_beat + IDLE) > self.settings.hangs_after:
                say(f"worker {number} of {model} hangs; it is ended")
                process.kill()
        elif self._silent(self._starting(model, number, seat)) > self.settings.start_timeout:
            say(f"worker {number} of {model} is not ready in time; it is ended")
            process.kill()

    def _starting(self, model: str, number: int, seat: Seat) -> float:
        """When it began, or last made progress; the last sign of the one before is older."""
        return max(self.server.started[model, number], seat.last_beat)

    def _silent(self, since: float) -> float:
        """Seconds, but for those in which this process was stopped itself."""
        return time.monotonic() - max(since, self._awake)

    def _is_up(self) -> bool:
        """Whether each model has a worker that is ready, and all API processes answer."""
        return all(self.pulses.last(number) for number in range(len(self._apis))) and all(
            any(seat.ready for seat in self.board.seats(model)) for model in self.server.benches
        )

    def _leave(self) -> None:
        """Not ready any more, but open to work until balancers have seen that."""
        if signal.SIGINT in self.signals.asked:
            say("finishing what is under way; Ctrl-C again ends that, too")
            return
        delay = self.settings.drain_delay
        say(f"leaving in {delay:g} s; until then work is taken")
        self.board.phase = Phase.LEAVING
        end = time.monotonic() + delay
        # A second SIGTERM says nothing new: some send it to a process and to its group.
        while (
            (left := end - time.monotonic()) > 0
            and self._failed is None
            and signal.SIGINT not in self.signals.asked
        ):
            self._wait(min(left, LOOK))
            self._look()

    def _drain(self) -> None:
        """API processes answer what they have begun, and go."""
        self.board.phase = Phase.DRAINING
        for process in self._apis:
            process.terminate()
        end = time.monotonic() + self.settings.timeout + GRACE
        for process in self._apis:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
            if process.exitcode != 0:
                self.status = 1  # requests were lost

    def _end(self) -> None:
        """LitServe ends the workers once nobody asks them any more."""
        self.notes.end()
        for model, number in list(self.server.workers):
            self.server.benches[model].line.nudge(number)
        self.server._shutdown_event.set()

"""Desk and worker in one process, the worker in a thread: no server, no second process."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vqtok.errors import InputError
from vqtok.serve.board import Board, Phase
from vqtok.serve.desk import Desk
from vqtok.serve.line import Line
from vqtok.serve.meters import Meters
from vqtok.serve.outcomes import Lost
from vqtok.serve.slab import slab_for
from vqtok.serve.worker import work

if TYPE_CHECKING:
    from vqtok.serve.engine import Engine
    from vqtok.serve.facts import Limits

__all__ = ["Local", "Sizes"]

# Seconds that a batch under way has when `Local` is left.
PATIENCE = 5.0


@dataclass(frozen=True)
class Sizes:
    """The largest that slots are made for: pixels of a picture that keeps its size, and frames."""

    max_area: int = 1 << 20
    slot_frames: int = 64


class Local:
    """`async with Local(engine) as local:`, once, then hand pictures to `local.desk`.

    A device that can't be used any more ends the worker, not the program: whoever waits for an
    answer, or asks later on, is told so by `Lost`.

    Leaving ends the worker after the batch that it is at, or leaves it behind where that hangs.

    slots, clip_slots  pictures and clips under way at once; streams: clips longer than a slot
    max_batch          the longest batch
    timeout            seconds that a picture has
    sizes              what slots are made for
    board, meters      where several share them: of all their models; the worker counts in `row`
    """

    def __init__(
        self,
        engine: Engine,
        *,
        slots: int = 64,
        clip_slots: int = 2,
        streams: int = 2,
        max_batch: int = 32,
        timeout: float = 30.0,
        sizes: Limits | None = None,
        board: Board | None = None,
        meters: Meters | None = None,
        row: int = 1,
    ) -> None:
        facts = engine.facts
        self.engine, self.max_batch, self.row = engine, max_batch, row
        slab = slab_for(facts, sizes or Sizes(), slots=slots, clip_slots=clip_slots)
        self.line = Line(slab)
        self.desk = Desk(self.line, 0, facts, timeout=timeout, streams=streams)
        self._own_board = board is None
        self.board = board or Board({facts.name: 1})
        self.meters = meters or Meters({facts.name: facts.traits.codebook_size}, rows=2)
        self._stopping = threading.Event()
        self._seat = self.board.seat(facts.name, 0)
        # What the worker ended with; None where it was told to.
        self._ended: asyncio.Future[BaseException | None] | None = None

    async def __aenter__(self) -> Self:
        if self._ended is not None:
            raise InputError("a Local is entered once; make another one")
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        await self.desk.start()
        self._thread = threading.Thread(
            target=self._work, args=(loop,), name="vqtok-worker", daemon=True
        )
        self._thread.start()
        up = asyncio.ensure_future(self.desk.up())
        await asyncio.wait((up, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            up.cancel()
            self._close()
            if (failure := self._ended.result()) is not None:
                raise failure
        self._phase(Phase.READY)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._phase(Phase.DRAINING)
        self._stopping.set()
        self.line.nudge(0)
        if self._ended is not None:
            await asyncio.wait((self._ended,), timeout=PATIENCE)
        self._close()

    def check(self, patience: float = 60.0) -> None:
        """Raises `Lost` where the worker has ended, or has been at one batch for so many seconds.

        Only leaving this one behind and making another helps then, best in another process.
        """
        if self._ended is None or self._ended.done():
            raise Lost("the worker has ended")
        since = self._seat.busy_since
        if since and time.monotonic() - since > patience:
            raise Lost(f"the worker has been at one batch for more than {patience:g} s")

    def _phase(self, phase: Phase) -> None:
        if self._own_board:
            self.board.phase = phase

    def _close(self) -> None:
        self.desk.close()
        if self._ended is None or not self._ended.done():
            return  # a thread that hangs in a batch may still use what follows
        self._thread.join()
        self.line.close()
        self.line.slab.close()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        failure: BaseException | None = None
        try:
            self.engine.warm_up(self.max_batch, self._seat.pulse)
            work(
                self.line,
                0,
                self.engine,
                max_batch=self.max_batch,
                stop=self._stopping.is_set,
                board=self.board,
                meters=self.meters.row(self.row),
                poisoned=_give_up,
            )
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed where this thread was left behind
            loop.call_soon_threadsafe(self._over, failure)

    def _over(self, failure: BaseException | None) -> None:
        if failure is not None:
            self.desk.give_up(f"the worker has ended: {type(failure).__name__}: {failure}")
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(failure)


def _give_up(failure: Exception) -> None:
    """What a worker in a thread does without its device: it ends, with the reason."""
    raise failure

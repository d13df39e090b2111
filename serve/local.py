"""Desk and worker in one process, the worker in a thread: no server, no second process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vqtok.serve.board import Board, Phase
from vqtok.serve.desk import Desk
from vqtok.serve.line import Line
from vqtok.serve.meters import Meters
from vqtok.serve.slab import Slab
from vqtok.serve.worker import work

if TYPE_CHECKING:
    from vqtok.serve.engine import Engine
    from vqtok.serve.facts import Facts, Limits

__all__ = ["Local", "Sizes", "slab_for"]

# Seconds that a batch under way has when `Local` is left.
PATIENCE = 5.0


@dataclass(frozen=True)
class Sizes:
    """The largest that slots are made for: pixels of a picture that keeps its size, and frames."""

    max_area: int = 1 << 20
    max_frames: int = 64


def slab_for(facts: Facts, limits: Limits, *, slots: int, clip_slots: int, desks: int = 1) -> Slab:
    """The slots of a model: so many for pictures and for clips, for each desk."""
    picture, clip = facts.slot_bytes(limits)
    return Slab([(slots, picture), (clip_slots if clip else 0, clip)], desks)


class Local:
    """`async with Local(engine) as local:` then hand pictures to `local.desk`.

    Leaving ends the worker after the batch that it is at, or leaves it behind where that hangs.

    slots, clip_slots  pictures and clips under way at once
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
        self.desk = Desk(self.line, 0, facts, timeout=timeout)
        self._own_board = board is None
        self.board = board or Board({facts.name: 1})
        self.meters = meters or Meters({facts.name: facts.codebook_size}, rows=2)
        self._stopping = threading.Event()
        self._ended: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        await self.desk.start()
        self._thread = threading.Thread(
            target=self._work, args=(loop, self._ended), name="vqtok-worker", daemon=True
        )
        self._thread.start()
        up = asyncio.ensure_future(self.desk.up())
        await asyncio.wait((up, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            up.cancel()
            self._close()
            self._ended.result()
        self._phase(Phase.READY)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._phase(Phase.DRAINING)
        self._stopping.set()
        self.line.nudge(0)
        if self._ended is not None:
            await asyncio.wait((self._ended,), timeout=PATIENCE)
        self._close()

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

    def _work(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        failure: BaseException | None = None
        try:
            work(
                self.line,
                0,
                self.engine,
                max_batch=self.max_batch,
                stop=self._stopping.is_set,
                board=self.board,
                meters=self.meters.row(self.row),
            )
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed where this thread was left behind
            loop.call_soon_threadsafe(_end, ended, failure)


def _end(ended: asyncio.Future[None], failure: BaseException | None) -> None:
    if ended.done():
        return
    if failure is None:
        ended.set_result(None)
    else:
        ended.set_exception(failure)

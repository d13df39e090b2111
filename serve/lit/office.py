"""What an API process does: a desk for each model, and the application in front of them."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vqtok.serve.board import Board, Phase
from vqtok.serve.lit.family import leave_with_parent
from vqtok.serve.lit.memory import keep_memory
from vqtok.serve.lit.pulses import Pulses

if TYPE_CHECKING:
    from vqtok.serve.desk import Desk
    from vqtok.serve.http.app import App
    from vqtok.serve.meters import Meters

__all__ = ["Office"]

BEAT = 1.0  # seconds between signs of life


@dataclass
class Office:
    """Made in the main process, forked into each API process, and opened there.

    desks  of API process i, a model each
    make   the application before them, with the meters of the process
    """

    desks: Callable[[int], dict[str, Desk]]
    make: Callable[[Mapping[str, Desk], Meters], App]
    board: Board
    meters: Meters
    pulses: Pulses
    app: App | None = None
    _open: dict[str, Desk] = field(default_factory=dict)
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, index: int) -> None:
        """Runs in API process `index`, on its loop."""
        leave_with_parent()
        keep_memory()
        self._take_signals()
        self._open = self.desks(index)
        for desk in self._open.values():
            await desk.start()
        self.app = self.make(self._open, self.meters.row(index))
        # All that is there by now stays; looking through it took a thirtieth of a request's time.
        gc.freeze()
        gc.set_threshold(10_000)
        self._opened.set()
        self._beat(index)

    async def opened(self) -> App:
        """The application, once it is there."""
        await self._opened.wait()
        assert self.app is not None
        return self.app

    async def close(self) -> None:
        """The process ends."""
        if self.app is not None:
            await self.app.close()
        for desk in self._open.values():
            desk.close()

    def _beat(self, index: int) -> None:
        """It answers, and the main process sees that it goes on doing so."""
        self.pulses.beat(index)
        asyncio.get_running_loop().call_later(BEAT, self._beat, index)

    def _take_signals(self) -> None:
        """A terminal or a supervisor of processes may signal the whole group. This process goes on
        listening until the main process has drained and says so, by the phase and a SIGTERM."""
        uvicorns: Any = signal.getsignal(signal.SIGTERM)

        def leave(number: int, frame: Any) -> None:
            if self.board.phase is Phase.DRAINING:
                uvicorns(number, frame)

        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        leave(signal.SIGTERM, None)  # one that came too early

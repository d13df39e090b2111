"""Slots as those have them who ask: from claiming one to giving it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy.typing as npt

if TYPE_CHECKING:
    import asyncio

    from vqtok.serve.desk import Desk
    from vqtok.serve.slab import Op, Slot
    from vqtok.serve.streams import Stream

__all__ = ["Answer", "Ticket"]


class Answer(NamedTuple):
    """What came of a picture.

    parts   by name; views into the slot, which end with the ticket
    size    as it was handed in
    queued  seconds from handing in to the device; ran: seconds of its batch there
    batch   how many pictures went through together
    """

    parts: dict[str, npt.NDArray[Any]]
    size: tuple[int, ...]
    queued: float
    ran: float
    batch: int


class Ticket:
    """A slot that somebody has, until `deadline`. It is a context manager, and must be closed.

    stream  that it holds the next chunk of
    """

    stream: Stream | None = None

    def __init__(self, desk: Desk, slot: Slot, deadline: float, waited: bool) -> None:
        self.desk, self.slot, self.deadline, self.waited = desk, slot, deadline, waited
        self.weight = 0
        self.uid = self.attempt = self.deaths = 0
        self.sent = 0.0
        self.worker: int | None = None  # that has the slot, or will read of it
        self.left = False
        self.future: asyncio.Future[Answer] | None = None

    async def run(self, op: Op, size: tuple[int, ...]) -> Answer:
        """Have a worker do `op` with the parts that were put into the slot, and wait for it.

        size  (h, w) or (t, h, w) of the picture or clip; zeros where it isn't known
        """
        return await self.desk.submit(self, op, size)

    def abandon(self) -> None:
        """Nobody waits any more: a worker that has not begun skips it; `run` is cancelled."""
        if self.future is not None:
            self.future.cancel()
        self.close()

    def close(self) -> None:
        """Give the slot back; it is free once no worker can touch it any more."""
        if not self.left:
            self.left = True
            self.desk.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

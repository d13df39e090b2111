"""Scenes between a desk and a worker that is played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from serve_bench import Bench, Hand
from serve_stubs import StubEngine, stub_facts

from vqtok.serve.desk import Desk
from vqtok.serve.slab import Op

CODES = np.arange(6, dtype=np.uint16).reshape(2, 3)
PIXELS = np.zeros((32, 48, 3), np.uint8)
Scene = Callable[[Bench, Hand], Awaitable[None]]


def play(scene: Scene, up: bool = True, **settings: Any) -> None:
    """Run a scene with a desk that listens, and mostly with a worker that is up."""
    bench = Bench(StubEngine(stub_facts(size=None, video=True)), **settings)

    async def main() -> None:
        hand = Hand(bench.line)
        for desk in bench.desks:
            await desk.start()
        if up:
            hand.hello()
            await bench.desk.up()
        await scene(bench, hand)
        for desk in bench.desks:
            desk.close()

    asyncio.run(main())


async def until(check: Callable[[], Any]) -> Any:
    while not (found := check()):
        await asyncio.sleep(0)
    return found


async def asked(desk: Desk, seconds: float | None = None, kind: int = 0) -> asyncio.Task[Any]:
    """A picture that is on its way; the task has the parts, and closes the ticket."""

    async def run() -> Any:
        with desk.claim(kind, seconds) as ticket:
            ticket.slot.put("pixels", PIXELS)
            answer = await ticket.run(Op.ENCODE, (32, 48))
            return answer._replace(parts={k: v.copy() for k, v in answer.parts.items()})

    task = asyncio.ensure_future(run())
    for _ in range(3):  # a busy worker is asked a turn of the loop later
        await asyncio.sleep(0)
    return task


async def outcome(task: asyncio.Task[Any]) -> Any:
    """What became of a task: its result, or its error."""
    await asyncio.wait((task,))
    return "cancelled" if task.cancelled() else task.exception() or task.result()

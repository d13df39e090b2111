"""Work that would hold up other requests, in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from vqtok.serve.outcomes import Late

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(
    threads: Executor, function: Callable[..., T], *args: object, until: float | None = None
) -> T:
    """function(*args) in a thread; `Late` where none has begun it by `until`, monotonic seconds.

    Whoever is cancelled meanwhile goes on only when the thread has ended: it may be writing where
    others are to write next.
    """
    job = threads.submit(function, *args)
    if until is None:
        return await _end_of(job)
    timer = asyncio.get_running_loop().call_later(until - time.monotonic(), job.cancel)
    try:
        return await _end_of(job)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if job.cancelled() and not (task and task.cancelling()):
            raise Late("no thread was free in time to decode it") from None
        raise
    finally:
        timer.cancel()


async def _end_of(job: Future[T]) -> T:
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if not job.done():
            await asyncio.wait([asyncio.wrap_future(job)])
        raise

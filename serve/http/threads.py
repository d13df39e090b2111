"""Work that would hold up other requests, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(threads: Executor, function: Callable[..., T], *args: object) -> T:
    """function(*args) in a thread.

    Whoever is cancelled meanwhile goes on only when the thread has ended: it may be writing where
    others are to write next.
    """
    job = threads.submit(function, *args)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if not job.done():
            await asyncio.wait([asyncio.wrap_future(job)])
        raise

"""How an API process keeps the memory that bodies and pictures pass through."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_memory"]

# Of glibc's mallopt.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

LARGE = 4 << 20  # bytes of one allocation that goes back to the system by itself
SPARE = 32 << 20  # bytes that may lie unused at the end of a heap


def keep_memory() -> None:
    """By itself glibc gives the piece of each body back, and fetches it again page by page: that
    took a quarter of a request's time. Without effect where it is not there.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGE)
        mallopt(TRIM_THRESHOLD, SPARE)

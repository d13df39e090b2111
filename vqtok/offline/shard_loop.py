"""One process that makes shards, one after the other, beside any number of others that do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from vqtok.offline.job import Beat, Job, Making, ShardWorker
from vqtok.offline.leases import BEATS, LeaseLost, Leases
from vqtok.offline.ledger import News, record_name
from vqtok.offline.store import open_store

if TYPE_CHECKING:
    from vqtok.offline.engines import Watch

__all__ = ["Begun", "ShardLoop", "Signs", "device_of", "nothing"]

PAUSE = 1.0  # before shards that others have are tried again; then twice that, and so on
LOOK = 5.0  # between two looks at what others have done, at most

Signs = Callable[[int], None]
# Told how many rows of the shard there are by now.


class Begun(NamedTuple):
    """A shard that is made, and is being written."""

    shard: int
    writing: Future[Any]


def nothing(rows: int) -> None:
    """For whoever needs no signs of life."""


class ShardLoop:
    """A worker that is made when it is first needed, and the leases that it takes."""

    def __init__(self, job: Job, making: Making, device: str) -> None:
        self._job, self._making, self._device = job, making, device
        self._worker: ShardWorker | None = None
        self.store = open_store(job.out)
        self._leases = Leases(self.store, job.lease)

    def all(self, order: Sequence[int], watch: Watch) -> None:
        """Returns when every shard of `order` is done, by this process or by others.

        A shard is written while the next is made.
        """
        news = News(self.store, self._job.attempt, order, watch)
        news.look()
        most = self._job.lease / BEATS
        pause = min(PAUSE, most)
        while news.left:
            worked = self._round(order, news)
            news.look()
            if worked:
                pause = min(PAUSE, most)
            else:  # others have all that is left
                _wait(news, pause)
                pause = min(2 * pause, most)

    def _round(self, order: Sequence[int], news: News) -> bool:
        """Does what can be had; False where that is nothing."""
        last: Begun | None = None
        worked = False
        for shard in [shard for shard in order if shard in news.left]:
            begun = None
            if not news.of(shard):
                begun = self.begin(shard, partial(news.working, shard))
            if begun is not None:
                self._settle(last, news)
                last, worked = begun, True
        self._settle(last, news)
        return worked

    def one(self, shard: int, signs: Signs = nothing) -> bool:
        """Does this shard; False where somebody else has it, or has done it."""
        begun = self.begin(shard, signs)
        if begun is not None:
            self.settle(begun)
        return begun is not None

    def begin(self, shard: int, signs: Signs = nothing) -> Begun | None:
        """Makes this shard, to be written from now on; None where somebody else has it.

        signs  called whenever the worker gives a sign of life, with the rows that it has made
        """
        attempt = self._job.attempt
        worker = self._ready()  # before the lease, which nobody touches while models are loaded
        if not self._leases.take(shard, attempt):
            return None
        begun = None
        try:
            with suppress(LeaseLost):
                if not self.store.exists(record_name(shard, attempt)):
                    both = _both(signs, self._leases.beat(shard, attempt))
                    begun = Begun(shard, worker.start(shard, both))
        finally:
            if begun is None:
                self._leases.release(shard, attempt)
        return begun

    def settle(self, begun: Begun) -> None:
        """Waits until it is written, and gives its lease back."""
        try:
            begun.writing.result()
        finally:
            self._leases.release(begun.shard, self._job.attempt)

    def _settle(self, begun: Begun | None, news: News) -> None:
        if begun is not None:
            self.settle(begun)
            news.of(begun.shard)

    def close(self) -> None:
        """Ends what the worker has begun, and gives back all leases."""
        try:
            if self._worker is not None:
                self._worker.close()
        finally:
            self._leases.release_all()

    def __enter__(self) -> ShardLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self) -> ShardWorker:
        if self._worker is None:
            self._worker = self._making(self._job, self._device)
        return self._worker


def _both(signs: Signs, beat: Callable[[], None]) -> Beat:
    made, alone = 0, Lock()  # a worker may have threads that beat

    def both(rows: int = 0) -> None:
        nonlocal made
        with alone:
            made += rows
            signs(made)
            beat()

    return both


def _wait(news: News, seconds: float) -> None:
    """Until then, or until all is done."""
    end = time.monotonic() + seconds
    while news.left and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK))
        news.look()


def device_of(device: str, place: int) -> str:
    """That of the `place`-th worker of a machine: "cuda" is one of its devices, in turn."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{place % max(torch.cuda.device_count(), 1)}"

"""Who does which shard where.

An engine only schedules. It has each shard of `todo` made by a worker somewhere and returns when
that is done; what it thinks of it is a hint, since a record in the store is what makes a shard
done. It may try a shard twice or on two machines at once: one of them comes first, the other
loses, and the data set is the same.

How to add an engine
--------------------
One new file here with one class, registered by its name:

    @ENGINES.register("name")
    class Name:
        def __init__(self, *, making: Making | None = None, **own settings) -> None: ...
        def run(self, job: Job, todo: Sequence[int], watch: Watch) -> None: ...

`making(job, device)` gives a worker; None stands for `vqtok.offline.worker.Worker`. What is wrong
with the job itself (a VqtokError out of a worker or out of `watch`) ends the run with that error;
a worker that dies is replaced. Whatever ends a run, an interrupt too, ends its workers.
tests/offline/test_engines.py shows what has to hold for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vqtok.offline.job import Job, ShardWorker
from vqtok.offline.records import Record, Timing
from vqtok.registry import Registry

__all__ = ["ENGINES", "Engine", "Watch", "usual_worker"]


class Watch(Protocol):
    """Told of every shard of `todo` that is done, once each, in the order in which they come.

    It may have a method `working(shard, rows)`, too, which is told now and then how many rows of a
    shard there are that is under way here.
    """

    def __call__(self, record: Record, timing: Timing | None) -> None: ...


class Engine(Protocol):
    """Has shards made."""

    def run(self, job: Job, todo: Sequence[int], watch: Watch) -> None:
        """Returns when every shard of `todo` has a record of attempt `job.attempt`."""


def usual_worker(job: Job, device: str) -> ShardWorker:
    """`vqtok.offline.worker.Worker`, imported where it is made."""
    from vqtok.offline.worker import Worker

    worker: ShardWorker = Worker(job, device)
    return worker


ENGINES: Registry[type[Engine]] = Registry("engine", "vqtok.offline.engines")

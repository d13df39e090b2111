"""What an actor of the engine "ray" does: a class of its own that knows nothing of Ray."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from vqtok.errors import LoadError, VqtokError
from vqtok.offline.job import Job, Making, ShardWorker
from vqtok.offline.ledger import read_plan
from vqtok.offline.shard_loop import ShardLoop, device_of
from vqtok.offline.store import open_store

__all__ = ["RayWorker", "Said"]

Said = tuple[str, Any]
REACH = (
    "The data set, the source and the tokenizer have to be there on every node under the names "
    "that the job has for them"
)


class RayWorker:
    """Makes shards on a node, one after the other.

    packed  a `Job` and a `Making`, pickled: what is wrong with them is told by `ready`
    here    the folder that the names of the job are relative to
    """

    def __init__(self, packed: bytes, here: str) -> None:
        self._packed = packed
        self._here = here
        self._loop: ShardLoop | None = None
        self._far: tuple[int, int] | None = None

    def ready(self) -> Said:
        """ "ready" with the node's name, once the data set of the job is seen from here."""
        return self._said(self._sit_down)

    def one(self, shard: int) -> Said:
        """ "done", or "held" where somebody else has the shard.

        Or "refused" with an error that another worker would meet as well, and "crashed" with one
        after which nobody knows what state this worker is in.
        """
        return self._said(lambda: self._one(shard))

    def far(self) -> tuple[int, int] | None:
        """The last shard that was begun, and its rows by now; for other threads to ask."""
        return self._far

    def _said(self, work: Callable[[], Said]) -> Said:
        try:
            return work()
        except VqtokError as error:
            return "refused", type(error)(str(error))  # a plain one, which can be pickled
        except Exception as error:
            return "crashed", f"{type(error).__name__}: {error}"

    def _sit_down(self) -> Said:
        if os.path.isdir(self._here):
            os.chdir(self._here)
        job, making = self._unpacked()
        with _naming_the_node():
            plan = read_plan(open_store(job.out))
            if plan.hash != job.plan.hash:
                raise LoadError(f"'{job.out}' holds another plan than where the job was started")
        device = device_of(job.device, 0)  # an actor sees its own GPU alone
        self._loop = ShardLoop(job, _Named(making), device)
        return "ready", socket.gethostname()

    def _unpacked(self) -> tuple[Job, Making]:
        try:
            job, making = pickle.loads(self._packed)
        except (ImportError, AttributeError) as error:
            raise LoadError(
                f"on node '{socket.gethostname()}': {error}. What the job is made of has to be "
                "installed on every node"
            ) from error
        return job, making

    def _one(self, shard: int) -> Said:
        if self._loop is None:
            raise LoadError("a worker makes no shard before it is ready")
        return ("done" if self._loop.one(shard, partial(self._note, shard)) else "held"), None

    def _note(self, shard: int, rows: int) -> None:
        self._far = shard, rows


class _Named:
    """Makes workers; what it cannot find says on which node that is."""

    def __init__(self, making: Making) -> None:
        self._making = making

    def __call__(self, job: Job, device: str) -> ShardWorker:
        with _naming_the_node():
            return self._making(job, device)


@contextmanager
def _naming_the_node() -> Iterator[None]:
    try:
        yield
    except VqtokError as error:
        raise type(error)(f"on node '{socket.gethostname()}': {error}. {REACH}") from error

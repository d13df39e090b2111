"""All that a worker needs to know, in one thing that goes to other processes and machines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vqtok.offline.records import Made

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.sources import Source
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Beat", "DecodeIn", "Job", "Making", "ShardWorker", "SourceSpec"]

DecodeIn = Literal["threads", "processes"]


class Beat(Protocol):
    """To be called after every batch, and while the first one fills.

    It raises where the shard has been done by somebody else; what it raises is to be let through.
    """

    def __call__(self, rows: int = 0) -> None:
        """With the rows that were made since it was called before."""


@dataclass(frozen=True)
class SourceSpec:
    """What `vqtok.sources.open_source` is called with."""

    paths: tuple[str, ...]
    kind: str | None = None


@dataclass(frozen=True)
class Job:
    """One run of `tokenize` or `retry-failed`.

    out           the data set: a folder or an fsspec URL
    load          makes the tokenizer on a device; it is pickled
    decoders      threads or processes that decode for one device
    device        "cpu", "cuda", "cuda:1"; where an engine has several, each of its workers has its
                  own
    lease         seconds without a sign of life after which another worker takes over a shard
    attempt       0, or which retry of the failed this is
    decode_in     processes: a file that brings its decoder down costs no other sample
    all_may_fail  whether a shard of which nothing can be read is one without rows; else that is
                  taken for a source that is gone, and ends the job
    opened        the source as it was opened to plan with, its videos cut, for workers of this
                  machine; None: each opens it
    """

    out: str
    source: SourceSpec
    load: Callable[[str], VisualTokenizer]
    plan: Plan
    decoders: int = 2
    device: str = "cpu"
    lease: float = 120.0
    attempt: int = 0
    decode_in: DecodeIn = "threads"
    all_may_fail: bool = False
    opened: Source | None = field(default=None, compare=False, repr=False)


class ShardWorker(Protocol):
    """What engines drive: `vqtok.offline.worker.Worker`."""

    def make(self, shard: int, beat: Beat) -> Made:
        """The shard's bytes and record: a function of the plan and the source alone."""

    def run(self, shard: int, beat: Beat) -> str:
        """Makes it and commits it: "won", "lost" or "differs"."""

    def start(self, shard: int, beat: Beat) -> Future[Any]:
        """Makes it; it is committed while the next one may be started.

        An error in that is raised by the result, and by the next `start`, which waits for it.
        """

    def close(self) -> None:
        """Ends its threads and processes."""


Making = Callable[[Job, str], ShardWorker]

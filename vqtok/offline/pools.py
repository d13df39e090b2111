"""Samples decoded ahead, in order and in bounded memory, by threads or processes.

Threads are enough where decoding is done in C, which lets go of the interpreter: Pillow's decoders
and torch's resize do. Processes decode beside an interpreter that is busy itself, at the price of
copying pixels once more; and one that a file brings down takes no other sample with it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing.connection import wait
from typing import NamedTuple, Protocol

from vqtok.errors import LoadError
from vqtok.offline.decode import Decoded, Decoder
from vqtok.offline.records import Failure

__all__ = ["Ahead", "Pool", "Processes", "Threads", "decoded"]

Found = list[Decoded | Failure]
TRIES = 2  # for a sample by itself, before it is held to be what ends a process
ENDED = "the process that decoded it ended without a word, killed or brought down by the file"


class Ahead(NamedTuple):
    """How far decoding runs ahead: samples that go to a decoder together, and how many such."""

    chunk: int
    chunks: int


class Pool(Protocol):
    """Where samples are decoded."""

    def submit(self, indices: Sequence[int]) -> Future[Found]:
        """Has samples decoded, in order."""
        ...

    def alone(self, indices: Sequence[int]) -> Found:
        """The same, after a decoder ended: one by one, nothing else under way."""
        ...

    def close(self) -> None:
        """Ends the decoders; what was submitted and not begun is not done."""
        ...


class Threads:
    """Decoders in this process; one that ends takes the process with it."""

    def __init__(self, decoder: Decoder, count: int) -> None:
        self._decoder = decoder
        self._usual = _torch_threads()
        self._executor = ThreadPoolExecutor(count, "vqtok-decode", _be_single)

    def submit(self, indices: Sequence[int]) -> Future[Found]:
        """See `Pool`."""
        return self._executor.submit(self._decoder, indices)

    def alone(self, indices: Sequence[int]) -> Found:
        """See `Pool`."""
        return self._decoder(indices)

    def close(self) -> None:
        """See `Pool`."""
        self._executor.shutdown(cancel_futures=True)
        _be_as(self._usual)


class Processes:
    """Decoders in processes of their own, which are started again when they end."""

    def __init__(self, decoder: Decoder, count: int) -> None:
        self._decoder = decoder
        self._count = count
        self._executor = self._started(count)
        try:
            self._executor.submit(_decode, []).result()
        except BrokenExecutor as error:
            self._executor.shutdown()
            raise LoadError(f"processes that decode cannot be started here: {error}") from error

    def _started(self, count: int) -> Executor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, spawn, _begin, (self._decoder,))

    def submit(self, indices: Sequence[int]) -> Future[Found]:
        """See `Pool`."""
        try:
            return self._executor.submit(_decode, indices)
        except BrokenExecutor:
            self._executor.shutdown()
            self._executor = self._started(self._count)
            return self._executor.submit(_decode, indices)

    def alone(self, indices: Sequence[int]) -> Found:
        """See `Pool`. A sample that ends its process each time has failed."""
        found = Found()
        single = self._started(1)
        for index in indices:
            for _ in range(TRIES):
                try:
                    found += single.submit(_decode, [index]).result()
                    break
                except BrokenExecutor:
                    single.shutdown()
                    single = self._started(1)
            else:
                found.append(self._decoder.failed(index, "decode", ENDED))
        single.shutdown()
        return found

    def close(self) -> None:
        """See `Pool`."""
        self._executor.shutdown(cancel_futures=True)


def decoded(
    pool: Pool, indices: Sequence[int], ahead: Ahead, beat: Callable[[], None]
) -> Iterator[Decoded | Failure]:
    """Samples in the order of `indices`; `beat` is called whenever some have come."""
    starts = iter(range(0, len(indices), ahead.chunk))
    under_way: deque[tuple[Sequence[int], Future[Found]]] = deque()

    def submit_next() -> None:
        start = next(starts, None)
        if start is not None:
            chunk = indices[start : start + ahead.chunk]
            under_way.append((chunk, pool.submit(chunk)))

    try:
        for _ in range(ahead.chunks):
            submit_next()
        while under_way:
            chunk, future = under_way.popleft()
            found = _result(pool, chunk, future, under_way)
            submit_next()
            beat()
            yield from found
    finally:
        for _, future in under_way:
            future.cancel()


def _result(
    pool: Pool,
    chunk: Sequence[int],
    future: Future[Found],
    under_way: deque[tuple[Sequence[int], Future[Found]]],
) -> Found:
    """What a chunk gave. Where a process ended, nobody knows over which of the samples under way.

    So this chunk is done again one by one, and then the others are submitted again.
    """
    try:
        return future.result()
    except BrokenExecutor:
        for _, other in under_way:
            other.exception()  # waits
        found = pool.alone(chunk)
        for number, (indices, other) in enumerate(under_way):
            if isinstance(other.exception(), BrokenExecutor):
                under_way[number] = indices, pool.submit(indices)
        return found


def _be_single() -> None:
    """Torch would cut even a copy into parts for all cores, in each of the threads.

    It keeps this number by thread, and gives the one set last to threads that begin later.
    """
    _be_as(1)


def _be_as(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


# --- in a process of its own ----------------------------------------------------------------------

_decoders: list[Decoder] = []


def _begin(decoder: Decoder) -> None:
    # There is a process for every core already, and torch is not here yet.
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_follow, daemon=True).start()
    _decoders[:] = [decoder]


def _follow() -> None:
    """Ends this process when its parent has been killed, or it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _decode(indices: Sequence[int]) -> Found:
    return _decoders[0](indices)

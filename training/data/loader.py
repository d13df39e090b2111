"""Batches of views, made by worker processes."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqtok.errors import ConfigError, ImageError, LoadError
from vqtok.sources import Source
from vqtok.training.data.stream import Draws, Shares, Stream
from vqtok.training.data.views import center_view, random_view
from vqtok.training.settings import Data

__all__ = ["Batches", "check_frames", "fixed"]

IN_A_ROW = 100  # bad samples that end a run
SHARE, AT_LEAST = 0.01, 10  # so does more than this share of all, if it is more than so many

Indices = Sequence[int] | npt.NDArray[np.int64]


class _Loaded(NamedTuple):
    """What a worker hands over."""

    pixels: Tensor | None  # (b, C, [T,] S, S); None where there was nothing but bad samples
    keys: list[str]
    bad: list[tuple[str, str]]  # key, what is wrong with it


class Batches:
    """The micro-batches of a run, as one of its processes sees them.

    What they hold depends on the source, `indices`, `data`, `seed` and `batch_size`: processes
    share a micro-batch out, and workers, at most as many as this process has cores, only change
    how soon it is there. In the place of a sample that cannot be read stands the next one in the
    stream, and a warning names it, once. 100 such in a row end the run with a LoadError, and so do
    more than 1 % of all samples, where that is more than ten.
    """

    def __init__(
        self,
        source: Source,
        indices: Indices,
        data: Data,
        *,
        batch_size: int,
        accumulate: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not len(indices):
            raise ConfigError("there is no sample to train on")
        check_frames(source, data)
        self._shares = Shares.of(batch_size, accumulate, rank, world)
        self._batch_size, self._accumulate = batch_size, accumulate
        stream = Stream(len(indices), seed)
        self._rows = _Random(source, np.asarray(indices, np.int64), data, stream)

    def micro_batches(self, from_step: int) -> Iterator[Tensor]:
        """uint8 (b, C, [T,] S, S), from the first of an optimizer step on, without an end."""
        first, tally = from_step * self._accumulate, _Tally(self._rows.stream.size)
        for loaded in _loader(self._rows, _Places(self._shares, first)):
            tally.add(loaded)
            if loaded.pixels is not None:
                yield loaded.pixels

    def epoch_of(self, step: int) -> float:
        """How many times each sample was seen, on average, when an optimizer step begins."""
        return step * self._batch_size / self._rows.stream.size


def fixed(
    source: Source, indices: Indices, data: Data, *, rank: int = 0, world: int = 1, batch_size: int
) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches without randomness: (uint8 (b, C, [T,] S, S) with b <= `batch_size`, their keys).

    Over all ranks each index comes once, each rank's in order; the number of batches may differ
    between ranks. Bad samples are left out with a warning; so many as end a training run are a
    LoadError here, too.
    """
    check_frames(source, data)
    mine = np.asarray(indices, np.int64)
    mine = mine[len(mine) * rank // world : len(mine) * (rank + 1) // world]
    starts = range(0, len(mine), batch_size)
    places = [range(start, min(start + batch_size, len(mine))) for start in starts]
    tally = _Tally(len(mine))
    for loaded in _loader(_Fixed(source, mine, data), places) if places else ():
        tally.add(loaded)
        if loaded.pixels is not None:
            yield loaded.pixels, loaded.keys


def check_frames(source: Source, data: Data) -> None:
    """Raises where clips are wanted of pictures."""
    if data.frames > 1 and not source.is_video:
        raise ConfigError(
            f"data.frames={data.frames} needs clips, but the source holds pictures; where these "
            "are the frames of clips, a folder each, data.kind=clips says so"
        )


class _Views(Dataset[_Loaded]):
    """What workers hold."""

    def __init__(self, source: Source, indices: npt.NDArray[np.int64], data: Data) -> None:
        self.source, self.indices, self.data = source, indices, data


class _Random(_Views):
    """Random views, by positions in the stream."""

    def __init__(
        self, source: Source, indices: npt.NDArray[np.int64], data: Data, stream: Stream
    ) -> None:
        super().__init__(source, indices, data)
        self.stream = stream

    def __getitem__(self, positions: range) -> _Loaded:
        rows, bad = list[Tensor](), list[tuple[str, str]]()
        for position in positions:
            wrong = self._put(position, rows)
            bad += wrong
            if len(wrong) == IN_A_ROW:
                return _Loaded(None, [], wrong)
        return _Loaded(torch.stack(rows), [], bad)

    def _put(self, position: int, rows: list[Tensor]) -> list[tuple[str, str]]:
        """Adds the view of the first good sample from a position on; returns the bad before it."""
        draws, bad = Draws(self.stream.seed, position), list[tuple[str, str]]()
        while len(bad) < IN_A_ROW:
            index = int(self.indices[self.stream[position + len(bad)]])
            try:
                rows.append(random_view(self.source[index], self.data, draws))
                break
            except (ImageError, LoadError) as error:
                bad.append((self.source.keys[index], str(error)))
        return bad


class _Fixed(_Views):
    """Central views, by places in `indices`."""

    def __getitem__(self, places: range) -> _Loaded:
        rows, keys, bad = list[Tensor](), list[str](), list[tuple[str, str]]()
        for index in self.indices[places.start : places.stop].tolist():
            key = self.source.keys[index]
            try:
                rows.append(center_view(self.source[index], self.data))
                keys.append(key)
            except (ImageError, LoadError) as error:
                bad.append((key, str(error)))
        return _Loaded(torch.stack(rows) if rows else None, keys, bad)


class _Places:
    """This rank's positions in one micro-batch after the other."""

    def __init__(self, shares: Shares, first: int) -> None:
        self.shares, self.first = shares, first

    def __iter__(self) -> Iterator[range]:
        return map(self.shares.positions, count(self.first))


class _Tally:
    """Knows which samples are bad, names each once, and says when they are too many."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.bad: set[str] = set()

    def add(self, loaded: _Loaded) -> None:
        """Raises where too much is bad."""
        for key, reason in loaded.bad:
            if key not in self.bad:
                warnings.warn(f"the sample {key!r} is left out: {reason}", stacklevel=3)
            self.bad.add(key)
        if loaded.pixels is None and len(loaded.bad) >= IN_A_ROW:
            self._stop(f"{len(loaded.bad)} samples in a row", loaded)
        if len(self.bad) > max(AT_LEAST, SHARE * self.samples):
            self._stop(f"{len(self.bad)} of {self.samples} samples", loaded)

    def _stop(self, what: str, loaded: _Loaded) -> None:
        key, reason = loaded.bad[-1]
        raise LoadError(f"{what} could not be read; the last is {key!r}: {reason}")


def _loader(rows: _Views, places: Any) -> DataLoader[_Loaded]:
    """Goes through `places` in order, ahead of whoever takes what it yields."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return DataLoader(
        rows,
        sampler=places,
        batch_size=None,
        num_workers=min(rows.data.workers, cores or 1),
        collate_fn=_as_is,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_begin,
        generator=torch.Generator(),  # else it would draw from the run's own
    )


def _as_is(loaded: Any) -> Any:
    return loaded


def _begin(worker: int) -> None:
    """In a worker, which torch keeps to one thread: the run answers signals to the whole group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

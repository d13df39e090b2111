"""Counts and durations of all processes, in shared memory: a row of numbers each, nothing locked.

A process adds to its own row; who is asked for metrics sums all rows.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError
from vqtok.serve.shared import Shared
from vqtok.serve.slab import FREE, GONE, QUEUED, TAKEN, Op

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from vqtok.serve.board import Board
    from vqtok.serve.line import Line

__all__ = ["CODES", "OPS", "Family", "Meters", "Place"]

OPS = (*(op.name.lower() for op in Op), "other")
# Statuses that are counted; 499 is a client that went away.
CODES = (
    *(200, 206, 304, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 415, 422, 429, 431),
    *(499, 500, 501, 503, 504),
)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
# Which codes have come up is kept for codebooks up to this.
LARGEST = 1 << 20


class Family(NamedTuple):
    """A metric: what it counts, by which labels, and the upper ends of a histogram's buckets."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


FAMILIES = (
    Family("vqtok_requests_total", "Requests answered.", ("model", "op", "code")),
    Family("vqtok_pictures_total", "Pictures and clips answered.", ("model", "op", "code")),
    Family("vqtok_request_seconds", "A request, from its head to its answer.", ("model", "op"),
           SECONDS),
    Family("vqtok_decode_seconds", "Decoding an upload into pixels.", ("model", "op"), SECONDS),
    Family("vqtok_queue_seconds", "From a full slot to the device.", ("model", "op"), SECONDS),
    Family("vqtok_model_seconds", "A batch on the device.", ("model", "op"), SECONDS),
    Family("vqtok_batch_size", "Pictures that went through together.", ("model", "op"), SIZES),
)  # fmt: skip


class Place(NamedTuple):
    """Where a series of a row is, and its buckets; a histogram's sum follows its last bucket."""

    first: int
    buckets: tuple[float, ...]


class Meters(Shared):
    """The counters and histograms of `FAMILIES`, and which codes have come up.

    models  name -> codebook size, for every model; "" stands for requests that name none
    rows    how many processes count; `row` gives each its own
    """

    def __init__(self, models: Mapping[str, int], rows: int = 1) -> None:
        self.models, self.rows = dict(models), rows
        self._lay_out()
        super().__init__(self._end)
        self._views(0)

    def _lay_out(self) -> None:
        values = {"model": (*self.models, ""), "op": OPS, "code": tuple(map(str, CODES))}
        self._places: dict[tuple[str, ...], Place] = {}
        first = 0
        for family in FAMILIES:
            for labels in product(*(values[label] for label in family.labels)):
                self._places[family.name, *labels] = Place(first, family.buckets)
                first += len(family.buckets) + 2 if family.buckets else 1
        self._stride = first
        self._end = 8 * self.rows * first
        self._used: dict[str, tuple[int, int]] = {}
        for model, size in self.models.items():
            if size <= LARGEST:
                self._used[model] = (self._end, size)
                self._end += size

    def _views(self, row: int) -> None:
        self._numbers = self.floats(0, self.rows * self._stride)
        self._base = row * self._stride
        self._codes = {m: self.array("?", size, at) for m, (at, size) in self._used.items()}

    def row(self, row: int) -> Meters:
        """The same meters for the process (or thread) that is to have this row alone."""
        if not 0 <= row < self.rows:
            raise InputError(f"there are meters for {self.rows} processes; got row {row}")
        other = object.__new__(Meters)
        other.__dict__.update(self.__dict__, _descriptor=os.dup(self._descriptor))
        other._base = row * self._stride
        return other

    def add(self, name: str, value: float = 1.0, **labels: object) -> None:
        """Add to a counter, or to a histogram a value; labels in the order of `FAMILIES`."""
        place = self._places.get((name, *map(str, labels.values())))
        if place is None:
            raise InputError(f"nothing is counted as {name} of {labels}")
        at = self._base + place.first
        if not place.buckets:
            self._numbers[at] += value
            return
        self._numbers[at + bisect_left(place.buckets, value)] += 1
        self._numbers[at + len(place.buckets) + 1] += value

    def mark(self, model: str, codes: npt.NDArray[np.integer]) -> None:
        """These codes have come up."""
        used = self._codes.get(model)
        if used is not None:
            used[codes] = True

    def families(
        self, board: Board | None = None, lines: Mapping[str, Line] | None = None
    ) -> Iterator[Metric]:
        """What `prometheus_client` exposes: a collector's `collect`.

        board  also tells of workers; lines (by model) of slots
        """
        from prometheus_client.metrics_core import GaugeMetricFamily

        totals = self.array("f8", (self.rows, self._stride)).sum(0)
        for family in FAMILIES:
            yield self._metric(family, totals)
        used = GaugeMetricFamily("vqtok_codes_used", "Codes that have come up.", labels=["model"])
        for model, seen in self._codes.items():
            used.add_metric([model], int(seen.sum()))
        yield used
        if board is not None:
            yield from _workers(board)
        if lines is not None:
            yield from _slots(lines)

    def _metric(self, family: Family, totals: npt.NDArray[np.float64]) -> Metric:
        from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

        kind: Any = HistogramMetricFamily if family.buckets else CounterMetricFamily
        metric: Metric = kind(family.name, family.help, labels=family.labels)
        for (name, *labels), place in self._places.items():
            if name != family.name:
                continue
            if not family.buckets and totals[place.first]:
                metric.add_metric(labels, float(totals[place.first]))  # type: ignore[attr-defined]
            elif family.buckets:
                self._histogram(metric, labels, place, totals)
        return metric

    @staticmethod
    def _histogram(
        metric: Any, labels: Sequence[str], place: Place, totals: npt.NDArray[np.float64]
    ) -> None:
        ends = (*map(str, place.buckets), "+Inf")
        counts = totals[place.first : place.first + len(ends)].cumsum()
        if counts[-1]:
            total = float(totals[place.first + len(ends)])
            metric.add_metric(labels, list(zip(ends, map(float, counts), strict=True)), total)

    def __getstate__(self) -> dict[str, Any]:
        row = self._base // self._stride
        return {**super().__getstate__(), "models": self.models, "rows": self.rows, "row": row}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.models, self.rows = state["models"], state["rows"]
        self._lay_out()
        self._views(state["row"])


def _workers(board: Board) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    up = GaugeMetricFamily("vqtok_workers", "Workers that are up.", labels=["model"])
    restarts = CounterMetricFamily(
        "vqtok_worker_restarts_total", "Workers started in place of another.", labels=["model"]
    )
    for model in board.workers:
        up.add_metric([model], board.up(model))
        restarts.add_metric([model], sum(seat.restarts for seat in board.seats(model)))
    yield from (up, restarts)


def _slots(lines: Mapping[str, Line]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    total, free, flight = (
        GaugeMetricFamily(name, text, labels=["model", "kind"])
        for name, text in (
            ("vqtok_slots", "Slots there are."),
            ("vqtok_slots_free", "Slots that can be had."),
            ("vqtok_in_flight", "Slots that a worker has or will have."),
        )
    )
    for model, line in lines.items():
        for kind in range(len(line.slab.kinds)):
            counts = line.slab.counts(kind)
            labels = [model, ("picture", "clip")[kind]]
            total.add_metric(labels, sum(counts))
            free.add_metric(labels, counts[FREE])
            flight.add_metric(labels, counts[QUEUED] + counts[TAKEN] + counts[GONE])
    yield from (total, free, flight)

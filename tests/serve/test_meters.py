"""Counts of all processes, as Prometheus reads them."""

from __future__ import annotations

import gc
import multiprocessing
import os
from typing import Any

import numpy as np
import pytest
import serve_bench
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import InputError
from vqtok.serve.board import Board
from vqtok.serve.line import Line
from vqtok.serve.meters import LARGEST, SECONDS, Meters
from vqtok.serve.slab import GONE, HELD, QUEUED, TAKEN, Slab

pytest.importorskip("prometheus_client")
LABELS = {"model": "a", "op": "encode"}


def text(meters: Meters, *given: Any) -> list[str]:
    """The exposition, without comments."""
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Any:
            return meters.families(*given)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_nothing_has_happened() -> None:
    assert text(Meters({"a": 4, "b": 4})) == [
        'vqtok_codes_used{model="a"} 0.0',
        'vqtok_codes_used{model="b"} 0.0',
    ]


def test_counters_are_summed_over_processes() -> None:
    meters = Meters({"a": 4}, rows=3)
    for row in range(3):
        own = meters.row(row)
        own.add("vqtok_requests_total", **LABELS, code=200)
        own.add("vqtok_pictures_total", 16, **LABELS, code=200)
    meters.add("vqtok_requests_total", model="", op="other", code=404)
    assert text(meters)[:3] == [
        'vqtok_requests_total{code="200",model="a",op="encode"} 3.0',
        'vqtok_requests_total{code="404",model="",op="other"} 1.0',
        'vqtok_pictures_total{code="200",model="a",op="encode"} 48.0',
    ]


def test_a_histogram() -> None:
    meters = Meters({"a": 4}, rows=2)
    for row, value in enumerate((3, 32)):
        meters.row(row).add("vqtok_batch_size", value, **LABELS)
    meters.add("vqtok_batch_size", 1000, **LABELS)
    ends = ("1.0", "2.0", "4.0", "8.0", "16.0", "32.0", "64.0", "128.0", "256.0", "+Inf")
    counts = (0, 0, 1, 1, 1, 2, 2, 2, 2, 3)
    assert text(meters)[:-1] == [
        *(
            f'vqtok_batch_size_bucket{{le="{end}",model="a",op="encode"}} {count}.0'
            for end, count in zip(ends, counts, strict=True)
        ),
        'vqtok_batch_size_count{model="a",op="encode"} 3.0',
        'vqtok_batch_size_sum{model="a",op="encode"} 1035.0',
    ]


@given(st.lists(st.floats(0, 100)))
def test_a_bucket_holds_what_is_not_above_its_end(values: list[float]) -> None:
    meters = Meters({"a": 4})
    for value in values:
        meters.add("vqtok_queue_seconds", value, **LABELS)
    (family,) = [one for one in meters.families() if one.name == "vqtok_queue_seconds"]
    found = {one.labels["le"]: one.value for one in family.samples if "le" in one.labels}
    if values:
        wanted = {str(end): sum(value <= end for value in values) for end in SECONDS}
        assert found == {**wanted, "+Inf": len(values)}
    else:
        assert found == {}


@pytest.mark.parametrize(
    ("name", "labels", "complaint"),
    [
        (
            "vqtok_requests_total",
            {**LABELS, "code": 299},
            "nothing is counted as vqtok_requests_total of "
            "{'model': 'a', 'op': 'encode', 'code': 299}",
        ),
        (
            "vqtok_cats_total",
            {"model": "a"},
            "nothing is counted as vqtok_cats_total of {'model': 'a'}",
        ),
    ],
)
def test_what_is_not_counted(name: str, labels: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError) as error:
        Meters({"a": 4}).add(name, **labels)
    assert str(error.value) == complaint


def test_there_are_so_many_rows() -> None:
    with pytest.raises(InputError) as error:
        Meters({"a": 4}, rows=2).row(2)
    assert str(error.value) == "there are meters for 2 processes; got row 2"


def test_a_row_that_is_dropped_takes_nothing_along() -> None:
    meters = Meters({"a": 4}, rows=2)
    descriptor = meters._descriptor
    meters.row(1).add("vqtok_requests_total", **LABELS, code=200)
    gc.collect()
    assert os.fstat(descriptor).st_size == meters.size
    assert len(text(meters)) == 2


def test_codes_that_have_come_up() -> None:
    meters = Meters({"a": 8, "b": 8, "large": LARGEST + 1}, rows=2)
    meters.row(0).mark("a", np.array([[1, 2], [2, 7]], np.uint16))
    meters.row(1).mark("a", np.array([1, 3], np.uint32))
    meters.mark("large", np.array([1]))
    assert text(meters) == ['vqtok_codes_used{model="a"} 4.0', 'vqtok_codes_used{model="b"} 0.0']


def test_workers_and_slots() -> None:
    meters, board = Meters({}), Board({"a": 2})
    line = Line(Slab([(5, 64), (1, 64)]))
    for index, state in enumerate((HELD, QUEUED, TAKEN, GONE)):
        line.slab.slot(index).state = state
    seat = board.seat("a", 1)
    seat.restarted()
    seat.take()
    seat.ready = True
    assert text(meters, board, {"a": line}) == [
        'vqtok_workers{model="a"} 1.0',
        'vqtok_worker_restarts_total{model="a"} 1.0',
        'vqtok_slots{kind="picture",model="a"} 5.0',
        'vqtok_slots{kind="clip",model="a"} 1.0',
        'vqtok_slots_free{kind="picture",model="a"} 1.0',
        'vqtok_slots_free{kind="clip",model="a"} 1.0',
        'vqtok_in_flight{kind="picture",model="a"} 3.0',
        'vqtok_in_flight{kind="clip",model="a"} 0.0',
    ]


def test_a_spawned_child_counts_in_its_row() -> None:
    meters = Meters({"a": 8}, rows=3)
    child = multiprocessing.get_context("spawn").Process(
        target=serve_bench.count, args=(meters.row(2),)
    )
    child.start()
    child.join()
    meters.add("vqtok_requests_total", **LABELS, code=200)
    assert text(meters) == [
        'vqtok_requests_total{code="200",model="a",op="encode"} 6.0',
        'vqtok_codes_used{model="a"} 1.0',
    ]
    assert meters.row(2).array("f8", (3, meters._stride)).sum(1).tolist() == [1, 0, 5]

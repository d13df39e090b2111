"""The life of a worker: when it is up, beats, sleeps and ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from serve_bench import BAD, SMALL, Bench, outcomes, small_bench, waiting_bench
from serve_stubs import StubEngine, codes_of, corners, picture, stub_facts

from vqtok.serve import worker as module
from vqtok.serve.engine import Item, Parts
from vqtok.serve.line import Said
from vqtok.serve.slab import TAKEN, Op
from vqtok.serve.worker import POISONED


def test_it_stops_only_when_nothing_waits() -> None:
    made = waiting_bench(5)
    made.work(max_batch=2, stop=lambda: True)
    assert outcomes(made) == dict.fromkeys(range(5), Said.DONE)


def test_once_told_it_stops_however_much_is_asked_meanwhile() -> None:
    class Asked(StubEngine):
        def run(self, op: Op, items: Sequence[Item], beat: Callable[[], None]) -> list[Parts]:
            made.ask(picture(1, SMALL), 1)
            return super().run(op, items, beat)

    made = Bench(Asked(stub_facts(size=None)))
    made.ask(picture(0, SMALL), 0)
    made.work()
    assert outcomes(made) == {0: Said.DONE}
    assert len(made.line.questions(0, 0)) == 1  # the desk asks somebody else, after the goodbye


def test_what_is_done_without_a_device_can_be_chosen() -> None:
    def end(failure: Exception) -> None:
        raise failure

    made = small_bench(fatal=BAD)
    made.ask(picture(1, SMALL, BAD), 1)
    with pytest.raises(RuntimeError, match="CUDA error: an illegal memory access"):
        made.work(poisoned=end)
    assert [one.said for one in made.said()] == [Said.HELLO, Said.GOODBYE]


def test_it_sleeps_until_it_is_asked_or_nudged() -> None:
    made, ending, looks = small_bench(), threading.Event(), []

    def stop() -> bool:
        looks.append(None)
        return ending.is_set()

    thread = threading.Thread(target=made.work, kwargs={"stop": stop})
    thread.start()
    while not made.board.seat("stub", 0).ready:
        time.sleep(0.001)
    time.sleep(0.1)
    made.ask(picture(1, SMALL), 1)
    while made.board.seat("stub", 0).busy_since or not made.engine.runs:
        time.sleep(0.001)
    ending.set()
    made.line.nudge(0)
    thread.join(20)
    assert not thread.is_alive()
    assert len(looks) < 10
    assert outcomes(made) == {1: Said.DONE}


def test_it_beats_while_idle_and_during_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    made = waiting_bench(1, per_batch=0.3)
    seat = made.board.seat("stub", 0)
    beats, busy, looks = set(), set(), []

    def stop() -> bool:
        looks.append(None)
        beats.add(seat.last_beat)
        return len(beats) > 3 or len(looks) > 500

    watch = threading.Thread(target=lambda: [busy.add(look(seat)) for _ in range(60)])
    watch.start()
    made.work(stop=stop)
    watch.join()
    assert len(beats) > 3
    assert len({beat for since, beat in busy if since}) > 3


def look(seat: Any) -> tuple[float, float]:
    time.sleep(0.005)
    return seat.busy_since, seat.last_beat


def test_progress_of_an_engine_is_no_hang() -> None:
    since: list[float] = []

    class Slow(StubEngine):
        def run(self, op: Op, items: Sequence[Item], beat: Callable[[], None]) -> list[Parts]:
            for _ in range(3):
                since.append(made.board.seat("stub", 0).busy_since)
                time.sleep(0.002)
                beat()
            return super().run(op, items, beat)

    made = Bench(Slow(stub_facts(size=None)))
    made.ask(picture(1, SMALL), 1)
    made.work()
    assert 0 < since[0] < since[1] < since[2]


def test_meters() -> None:
    made = waiting_bench(3)
    made.work(max_batch=2)
    families = {one.name: one for one in made.meters.families()}
    values = {
        sample.name: sample.value
        for name in ("vqtok_batch_size", "vqtok_model_seconds", "vqtok_queue_seconds")
        for sample in families[name].samples
        if sample.labels.get("le", "+Inf") == "+Inf"
    }
    counts = ("vqtok_batch_size", "vqtok_model_seconds", "vqtok_queue_seconds")
    assert [values[f"{name}_count"] for name in counts] == [2, 2, 3]
    assert values["vqtok_batch_size_sum"] == 3
    codes = [codes_of(corners(picture(uid, SMALL), False)) for uid in range(3)]
    (used,) = families["vqtok_codes_used"].samples
    assert used.value == len(np.unique(codes))


def test_a_device_that_is_beyond_repair_ends_the_process() -> None:
    made = small_bench(fatal=BAD)
    process = made.spawn()
    made.ask(picture(1, SMALL, BAD), 1)
    process.join(20)
    assert process.exitcode == POISONED
    assert outcomes(made) == {}
    assert made.slab.slot(1).state == TAKEN


def test_a_worker_in_a_process_ends_with_its_parent_or_a_signal() -> None:
    made = small_bench()
    process = made.spawn()
    made.ask(picture(1, SMALL), 1)
    while not (found := outcomes(made)):
        time.sleep(0.01)
    assert found == {1: Said.DONE}
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(20)
    assert process.exitcode == -signal.SIGKILL

"""A worker: whom it answers, what it skips, and how it finds what a batch failed on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from serve_bench import BAD, SMALL, Bench, outcomes, small_bench, waiting_bench
from serve_stubs import StubEngine, codes_of, corners, latents_of, picture, pixels_of, stub_facts

from vqtok.errors import InputError
from vqtok.serve import worker as module
from vqtok.serve.engine import Item, Parts
from vqtok.serve.line import Said
from vqtok.serve.slab import GONE, QUEUED, TAKEN, Op
from vqtok.serve.worker import _memory_ran_out, _poisoned

Beat = Callable[[], None]


def message(made: Bench, uid: int) -> str:
    return made.slab.slot(uid).made.parts()["message"].tobytes().decode()


# --- what it answers ------------------------------------------------------------------------


@pytest.mark.parametrize("op", list(Op))
def test_every_op(op: Op) -> None:
    made = small_bench()
    pixels = picture(1, SMALL)
    cells = corners(pixels, False)
    codes = codes_of(cells)
    latents = latents_of(cells)
    name, part = {Op.DECODE: ("codes", codes), Op.DECODE_LATENTS: ("latents", latents)}.get(
        op, ("pixels", pixels)
    )
    made.ask(part, 3, op=op, name=name, size=SMALL)
    made.work()
    assert outcomes(made) == {3: Said.DONE}
    found = made.slab.slot(3).made.parts()
    shown = {"codes": codes, "latents": latents, "pixels": pixels_of(codes)}
    wanted = {
        Op.ENCODE: ("codes",),
        Op.LATENTS: ("codes", "latents"),
        Op.DECODE: ("pixels",),
        Op.DECODE_LATENTS: ("pixels",),
        Op.RECONSTRUCT: ("codes", "pixels"),
    }[op]
    assert tuple(found) == wanted
    for name in wanted:
        assert np.array_equal(found[name], shown[name])


def test_it_says_when_it_comes_and_goes() -> None:
    made = waiting_bench(3)
    made.work()
    said = made.said()
    assert [one.said for one in said] == [Said.HELLO, *[Said.DONE] * 3, Said.GOODBYE]
    assert {one.generation for one in said} == {1}
    assert said[0].uid == os.getpid()
    seat = made.board.seat("stub", 0)
    assert (seat.ready, seat.busy_since, seat.generation) == (False, 0.0, 1)
    made.work()
    assert [one.generation for one in made.said()] == [2, 2]


def test_an_answer_tells_of_its_batch() -> None:
    made = waiting_bench(3, per_batch=0.01)
    made.work()
    done = [one for one in made.said() if one.said == Said.DONE]
    assert [one.batch for one in done] == [3, 3, 3]
    assert all(one.ran >= 0.01 for one in done)
    assert [round(done[0].queued - one.queued, 6) for one in done] == [0, 1, 2]


def test_what_waits_goes_together_up_to_max_batch() -> None:
    made = waiting_bench(7)
    made.work(max_batch=4)
    assert made.engine.runs == [(Op.ENCODE, 4), (Op.ENCODE, 3)]


def test_a_desk_that_asks_a_lot_fills_the_longest_batch() -> None:
    made = waiting_bench(200, slots=200)
    made.work(max_batch=200)
    assert made.engine.runs == [(Op.ENCODE, 200)]


def test_as_many_go_together_as_the_engine_takes() -> None:
    made = waiting_bench(5, together=2)
    made.work(max_batch=4)
    assert made.engine.runs == [(Op.ENCODE, 2), (Op.ENCODE, 2), (Op.ENCODE, 1)]


class Puzzled(StubEngine):
    def rows(self, item: Item) -> int:
        raise InputError("no such grid")


def test_what_the_engine_cannot_place_goes_alone() -> None:
    made = Bench(Puzzled(stub_facts(size=None), refused=BAD))
    for uid in range(3):
        made.ask(picture(uid, SMALL, BAD if uid == 1 else None), uid)
    made.work()
    assert made.engine.runs == [(Op.ENCODE, 1)] * 3
    assert outcomes(made) == {0: Said.DONE, 1: Said.REFUSED, 2: Said.DONE}


def test_clips_go_one_at_a_time() -> None:
    made = Bench(StubEngine(stub_facts(size=None, video=True)), slots=4)
    for uid in range(3):
        made.ask(picture(uid, SMALL), uid)
    made.work()
    assert made.engine.runs == [(Op.ENCODE, 1)] * 3
    assert outcomes(made) == dict.fromkeys(range(3), Said.DONE)


def test_every_desk_gets_its_own_answers() -> None:
    made = Bench(StubEngine(stub_facts(size=None)), desks=2)
    first = made.ask(picture(1, SMALL), 1)
    slot = made.slab.slot(5)
    slot.clear()
    slot.put("pixels", picture(5, SMALL))
    slot.head = made.slab.slot(1).head
    made.line.ask(1, 0, [first._replace(slot=5)])
    made.work()
    assert made.engine.runs == [(Op.ENCODE, 2)]
    for desk, at in ((0, 1), (1, 5)):
        answers = [one for one in made.line.answers(desk, 0) if one.said == Said.DONE]
        assert [one.uid for one in answers] == [1]
        wanted = codes_of(corners(picture(at, SMALL), False))
        assert np.array_equal(made.slab.slot(at).made.parts()["codes"], wanted)


# --- what it skips --------------------------------------------------------------------------


def test_questions_for_somebody_else_are_left_alone() -> None:
    made = small_bench()
    made.ask(picture(1, SMALL), 1, generation=2)
    made.ask(picture(2, SMALL), 2, attempt=2)
    made.ask(picture(3, SMALL), 3)
    other = made.ask(picture(4, SMALL), 4)
    slot = made.slab.slot(4)
    slot.head = slot.head._replace(uid=other.uid + 100)
    made.work()
    assert outcomes(made) == {3: Said.DONE}
    assert [made.slab.slot(uid).state for uid in (1, 2, 4)] == [0, 0, 0]


def test_nothing_is_computed_for_who_is_gone_or_too_late() -> None:
    made = small_bench()
    made.ask(picture(1, SMALL), 1)
    made.slab.slot(1).state = GONE
    made.ask(picture(2, SMALL), 2, deadline=0.001)
    made.ask(picture(3, SMALL), 3)
    made.slab.slot(3).state = QUEUED
    made.work()
    assert outcomes(made) == {1: Said.SKIPPED, 2: Said.LATE, 3: Said.DONE}
    assert made.engine.runs == [(Op.ENCODE, 1)]
    assert made.slab.slot(3).state == TAKEN


class Leaving(StubEngine):
    """Meanwhile the clients of these slots leave; then it has something to show."""

    def run(self, op: Op, items: Sequence[Item], beat: Beat) -> list[Parts]:
        for uid in self.leavers:
            self.slab.slot(uid).state = GONE
        beat()
        return super().run(op, items, beat)


def leaving(*leavers: int, **settings: Any) -> Bench:
    made = Bench(Leaving(stub_facts(size=None), **settings))
    made.engine.slab, made.engine.leavers = made.slab, leavers  # type: ignore[attr-defined]
    for uid in range(3):
        made.ask(picture(uid, SMALL, BAD if uid == 0 else None), uid)
    return made


def test_a_batch_is_given_up_once_nobody_waits_for_any_of_it() -> None:
    made = leaving(0, 1, 2)
    made.work()
    assert outcomes(made) == dict.fromkeys(range(3), Said.SKIPPED)
    assert made.engine.runs == []
    assert not made.board.seat("stub", 0).busy_since
    some = leaving(0, 1)
    some.work()
    assert outcomes(some) == dict.fromkeys(range(3), Said.DONE)


def test_halves_of_a_batch_that_failed_leave_out_who_left_meanwhile() -> None:
    made = leaving(1, poison=BAD)
    made.work()
    assert outcomes(made) == {0: Said.BROKEN, 1: Said.SKIPPED, 2: Said.DONE}
    assert made.engine.runs == [(Op.ENCODE, 3), (Op.ENCODE, 1), (Op.ENCODE, 1)]


def test_every_answer_says_how_long_it_waited() -> None:
    made = leaving(2, refused=BAD)
    made.ask(picture(3, SMALL), 3, deadline=0.001)
    made.work()
    said = [one for one in made.said() if one.said > Said.GOODBYE]
    assert {one.said for one in said} == {Said.REFUSED, Said.DONE, Said.SKIPPED, Said.LATE}
    assert all(one.queued > 0 for one in said)


def test_what_a_worker_died_over_runs_alone() -> None:
    made = small_bench()
    for uid in range(4):
        made.ask(picture(uid, SMALL), uid, alone=int(uid in (1, 2)))
    made.work()
    assert made.engine.runs == [(Op.ENCODE, 2), (Op.ENCODE, 1), (Op.ENCODE, 1)]
    assert outcomes(made) == dict.fromkeys(range(4), Said.DONE)


# --- what fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(), (0,), (3, 4), tuple(range(8))])
def test_a_batch_is_halved_until_only_the_culprits_fail(
    bad: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    made = waiting_bench(8, bad, poison=BAD)
    made.work()
    said = {uid: Said.BROKEN if uid in bad else Said.DONE for uid in range(8)}
    assert outcomes(made) == said
    for uid in bad:
        assert message(made, uid) == "ValueError: a poisoned picture"
    for uid in set(range(8)) - set(bad):
        wanted = codes_of(corners(picture(uid, SMALL), False))
        assert np.array_equal(made.slab.slot(uid).made.parts()["codes"], wanted)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["a picture failed (encode)"] * len(bad)


def test_what_the_engine_refuses_is_no_error_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = waiting_bench(3, (1,), refused=BAD)
    made.work()
    assert outcomes(made) == {0: Said.DONE, 1: Said.REFUSED, 2: Said.DONE}
    assert message(made, 1) == "this picture cannot be done"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_memory_that_runs_out_shortens_this_kind_of_batch() -> None:
    made = waiting_bench(8, oom=3)
    made.work()
    assert outcomes(made) == dict.fromkeys(range(8), Said.DONE)
    lengths = [length for _, length in made.engine.runs]
    assert lengths == [8, 4, 2, 2, 4, 2, 2]


def test_the_shorter_batch_is_kept() -> None:
    made = waiting_bench(5, oom=2)
    made.work(max_batch=4)
    assert [length for _, length in made.engine.runs] == [4, 2, 2, 1]
    more = waiting_bench(7, oom=2)
    more.work(max_batch=4)
    assert [length for _, length in more.engine.runs] == [4, 2, 2, 2, 1]


def test_memory_that_runs_out_with_one_picture() -> None:
    made = waiting_bench(2, oom=0)
    made.work()
    assert outcomes(made) == {0: Said.BROKEN, 1: Said.BROKEN}
    assert message(made, 1) == "MemoryError: out of memory with 1 pictures"


def test_a_batch_of_one_that_memory_runs_out_with_lowers_nothing() -> None:
    made = waiting_bench(0, oom=0)
    made.ask(picture(1, SMALL), 1, alone=1)
    seat, meters = made.board.seat("stub", 0), made.meters.row(1)
    own = module._Worker(made.line, 0, made.engine, 32, seat, meters, module.end_process)
    own.listen(0)
    own.next_batch()
    assert own.gather._caps == {}


class Surrogate(StubEngine):
    def run(self, op: Op, items: Sequence[Item], beat: Beat) -> list[Parts]:
        raise ValueError("file \udce9.png")


def test_a_message_that_is_no_text() -> None:
    made = Bench(Surrogate(stub_facts(size=None)))
    made.ask(picture(1, SMALL), 1)
    made.work()
    assert message(made, 1) == "ValueError: file ?.png"


class Miscounting(StubEngine):
    def run(self, op: Op, items: Sequence[Item], beat: Beat) -> list[Parts]:
        return super().run(op, items, beat)[1:]


def test_an_engine_that_miscounts() -> None:
    made = Bench(Miscounting(stub_facts(size=None)))
    made.ask(picture(1, SMALL), 1)
    made.work()
    assert outcomes(made) == {1: Said.BROKEN}
    assert message(made, 1) == "RuntimeError: the engine gave 0 answers to 1 questions"


class Talkative(StubEngine):
    def run(self, op: Op, items: Sequence[Item], beat: Beat) -> list[Parts]:
        return [{"codes": np.zeros(10**7, np.uint16)} for _ in items[:1]] + super().run(
            op, items[1:], beat
        )


def test_an_answer_that_does_not_fit_harms_nobody_else() -> None:
    made = Bench(Talkative(stub_facts()))
    for uid in range(3):
        made.ask(picture(uid), uid)
    made.work()
    assert outcomes(made) == {0: Said.BROKEN, 1: Said.DONE, 2: Said.DONE}
    assert message(made, 0) == (
        "RuntimeError: its answer can't be handed over: codes of uint16 (10000000,) need "
        "20,000,000 bytes, and of the slot's 200,704 there are 200,704 left"
    )


class AcceleratorError(RuntimeError):
    pass


class OutOfMemoryError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "memory", "poison"),
    [
        (ValueError("a bug"), False, False),
        (MemoryError(), True, False),
        (OutOfMemoryError("Tried to allocate"), True, False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (AcceleratorError("device-side assert triggered"), False, True),
        (AcceleratorError("CUDA error: out of memory"), True, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("HIP error: an illegal memory access was encountered"), False, True),
    ],
)
def test_kinds_of_failure(error: Exception, memory: bool, poison: bool) -> None:
    assert (_memory_ran_out(error), _poisoned(error)) == (memory, poison)


def test_memory_that_ran_out_is_no_end_of_the_device() -> None:
    ends: list[Exception] = []

    class Short(StubEngine):
        def run(self, op: Op, items: Sequence[Item], beat: Beat) -> list[Parts]:
            if len(items) > 1:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling")
            return super().run(op, items, beat)

    made = Bench(Short(stub_facts(size=None)))
    for uid in range(2):
        made.ask(picture(uid, SMALL), uid)
    made.work(poisoned=ends.append)
    assert outcomes(made) == dict.fromkeys(range(2), Said.DONE)
    assert ends == []


def test_what_failed_for_memory_is_let_go() -> None:
    held: list[Exception] = []

    class Holding(StubEngine):
        def run(self, op: Op, items: Sequence[Item], beat: Beat) -> list[Parts]:
            try:
                return super().run(op, items, beat)
            except MemoryError as error:
                held.append(error)
                raise

    made = Bench(Holding(stub_facts(size=None), oom=1))
    made.ask(picture(1, SMALL), 1)
    made.ask(picture(2, SMALL), 2)
    made.work()
    assert [error.__traceback__ for error in held] == [None]

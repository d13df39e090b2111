"""A desk, against a worker that is played by hand: slots, questions, answers, who leaves."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from serve_bench import Bench, Hand, slab_memory
from serve_scenes import CODES, PIXELS, asked, outcome, play, until
from serve_stubs import StubEngine, stub_facts

from vqtok.errors import InputError
from vqtok.serve.desk import Answer, Ticket
from vqtok.serve.line import Said
from vqtok.serve.outcomes import Broken, Busy, EngineError, Late, Lost, Refused
from vqtok.serve.slab import FREE, GONE, HELD, QUEUED, Op

# --- slots ----------------------------------------------------------------------------------


def test_slots_are_claimed_until_there_are_none() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        tickets = [bench.desk.claim() for _ in range(4)]
        assert len({ticket.slot.index for ticket in tickets}) == 4
        assert {ticket.slot.state for ticket in tickets} == {HELD}
        assert bench.desk.free == (0, 2)
        with pytest.raises(Busy) as error:
            bench.desk.claim()
        assert str(error.value) == "all 4 slots for pictures are taken; try again soon"
        for ticket in tickets:
            ticket.close()
            ticket.close()
        assert bench.desk.free == (4, 2)
        assert bench.all_free()

    play(scene)


def test_a_slot_comes_empty() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        with bench.desk.claim() as ticket:
            ticket.slot.put("pixels", PIXELS)
            ticket.slot.made.put("codes", CODES)
        with bench.desk.claim() as ticket:
            assert ticket.slot.parts() == ticket.slot.made.parts() == {}

    play(scene, slots=1)


def test_there_may_be_no_slots_of_a_kind() -> None:
    bench = Bench(StubEngine(stub_facts()))
    bench.desk.claim(1).close()
    bench = Bench(StubEngine(stub_facts(size=None)))
    with pytest.raises(InputError) as error:
        bench.desk.claim(1)
    assert str(error.value) == "stub has no slots for clips"


def test_who_waits_gets_slots_in_turn() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        ticket = bench.desk.claim()
        got: list[int] = []

        async def wait(number: int) -> None:
            with await bench.desk.wait():
                got.append(number)

        tasks = [asyncio.ensure_future(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert got == []
        ticket.close()
        await asyncio.gather(*tasks)
        assert got == list(range(5))
        assert bench.desk.free == (1, 2)

    play(scene, slots=1)


@pytest.mark.parametrize(("slots", "share"), [(1, 1), (2, 1), (4, 3), (8, 6), (64, 48)])
def test_who_waits_leaves_slots_to_who_comes(slots: int, share: int) -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        waiting = [asyncio.ensure_future(bench.desk.wait()) for _ in range(slots + 2)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True] * share + [False] * (2 + slots - share)
        claimed = [bench.desk.claim() for _ in range(slots - share)]
        with pytest.raises(Busy):
            bench.desk.claim()
        for task in waiting[:share]:
            task.result().close()
        await asyncio.sleep(0)
        done = sum(task.done() for task in waiting)
        assert done == min(slots + 2, 2 * share)
        for ticket in (*claimed, *(task.result() for task in waiting[share:done])):
            ticket.close()
        for task in waiting[done:]:
            (await task).close()
        assert bench.desk.free == (slots, 2)
        assert bench.desk._waited == [0, 0]

    play(scene, slots=slots)


def test_who_waits_is_not_kept_out_by_who_comes() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        claimed = [bench.desk.claim() for _ in range(4)]
        waiting = [asyncio.ensure_future(bench.desk.wait()) for _ in range(4)]
        await asyncio.sleep(0)
        for ticket in claimed:
            ticket.close()
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True] * 3 + [False]
        with bench.desk.claim(), pytest.raises(Busy):
            bench.desk.claim()
        assert not waiting[3].done()
        for task in waiting:
            (await task).close()

    play(scene)


def test_who_waits_too_long_is_late() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        with bench.desk.claim():
            with pytest.raises(Late) as error:
                await bench.desk.wait(seconds=0.01)
            assert str(error.value) == "no slot for pictures came free in time"
        assert bench.desk.free == (1, 2)

    play(scene, slots=1)


@pytest.mark.parametrize("handed", [True, False])
def test_who_stops_waiting_takes_no_slot_along(handed: bool) -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        ticket = bench.desk.claim()
        task = asyncio.ensure_future(bench.desk.wait())
        await asyncio.sleep(0)
        if handed:
            ticket.close()
        task.cancel()
        assert await outcome(task) == "cancelled"
        ticket.close()
        assert bench.desk.free == (1, 2)
        assert bench.all_free()

    play(scene, slots=1)


def test_the_memory_of_clips_is_given_back() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        before = slab_memory(bench.slab)
        for _ in range(3):
            with bench.desk.claim(1) as ticket:
                ticket.slot.lay("pixels", np.uint8, (8, 512, 512, 3))[...] = 1
                assert slab_memory(bench.slab) > before + 8 * 512 * 512 * 3
            assert slab_memory(bench.slab) < before + 100_000

    play(scene)


def test_desks_have_slots_of_their_own() -> None:
    bench = Bench(desks=2)
    slots = [[desk.claim().slot.index for _ in range(4)] for desk in bench.desks]
    assert slots == [[3, 2, 1, 0], [7, 6, 5, 4]]


# --- questions and answers ------------------------------------------------------------------


def test_a_question_and_its_answer() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        (question,) = hand.read()
        slot = bench.slab.slot(question.slot)
        assert (slot.head.uid, slot.head.op, slot.head.size) == (1, Op.ENCODE, (32, 48))
        assert question[:3] == (1, 1, 1)
        assert 0 < question.deadline - question.sent <= 20
        assert (slot.state, bench.desk.in_flight) == (QUEUED, 1)
        hand.done(question, codes=CODES)
        answer = await task
        assert isinstance(answer, Answer)
        assert answer.parts["codes"].tolist() == CODES.tolist()
        assert answer[1:] == ((32, 48), 0.25, 0.5, 1)
        assert bench.all_free()

    play(scene)


@pytest.mark.parametrize(("said", "kind"), [(Said.REFUSED, Refused), (Said.BROKEN, Broken)])
def test_what_a_worker_says_was_wrong(said: Said, kind: type[EngineError]) -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        text = np.frombuffer("grün is no size".encode(), np.uint8)
        hand.done(hand.read()[0], said, message=text)
        error = await outcome(task)
        assert type(error) is kind
        assert str(error) == "grün is no size"
        assert bench.all_free()

    play(scene)


def test_a_ticket_may_run_again_after_its_answer() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        with bench.desk.claim() as ticket:
            for uid in (1, 2):
                task = asyncio.ensure_future(ticket.run(Op.ENCODE, (32, 48)))
                (question,) = await until(hand.read)
                assert question.uid == uid
                hand.done(question, codes=CODES + uid)
                assert (await task).parts["codes"][0, 0] == uid

    play(scene)


def test_a_ticket_runs_one_question_and_none_once_it_is_closed() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        ticket = bench.desk.claim()
        task = asyncio.ensure_future(ticket.run(Op.ENCODE, (1, 1)))
        await asyncio.sleep(0)
        complaint = "a ticket runs one question at a time, and none once it is closed"
        with pytest.raises(InputError) as error:
            await ticket.run(Op.ENCODE, (1, 1))
        assert str(error.value) == complaint
        ticket.abandon()
        assert await outcome(task) == "cancelled"
        with pytest.raises(InputError) as error:
            await ticket.run(Op.ENCODE, (1, 1))
        assert str(error.value) == complaint

    play(scene)


def test_only_what_is_waited_for_counts_as_an_answer() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        (question,) = hand.read()
        hand.say(Said.DONE, uid=99, attempt=1)
        hand.say(Said.DONE, uid=question.uid, attempt=question.attempt + 1)
        hand.generation += 1
        hand.say(Said.DONE, uid=question.uid, attempt=question.attempt)
        hand.generation -= 1
        await asyncio.sleep(0.01)
        assert not task.done()
        hand.done(question, codes=CODES)
        hand.say(Said.BROKEN, uid=question.uid, attempt=question.attempt)
        await task
        await asyncio.sleep(0.01)
        assert bench.all_free()
        assert bench.desk.free == (4, 2)

    play(scene)


# --- who leaves -----------------------------------------------------------------------------


def test_the_slot_of_a_late_answer_is_free_only_after_it() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk, seconds=0.01)
        error = await outcome(task)
        assert type(error) is Late
        assert str(error) == "the answer was not there in time"
        (question,) = hand.read()
        assert bench.slab.slot(question.slot).state == GONE
        assert bench.desk.free == (3, 2)
        assert bench.desk.in_flight == 1
        hand.done(question, codes=CODES)
        await until(bench.all_free)
        assert bench.desk.free == (4, 2)

    play(scene)


@pytest.mark.parametrize("said", [Said.LATE, Said.SKIPPED])
def test_a_worker_may_find_first_that_it_is_too_late(said: Said) -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        hand.done(hand.read()[0], said)
        error = await outcome(task)
        assert type(error) is Late
        assert str(error) == "the answer was not there in time"
        assert bench.all_free()

    play(scene)


@pytest.mark.parametrize("how", ["cancel", "abandon"])
def test_who_is_gone_costs_a_slot_until_the_worker_has_seen_it(how: str) -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        ticket = bench.desk.claim()
        task = asyncio.ensure_future(ticket.run(Op.ENCODE, (32, 48)))
        await asyncio.sleep(0)
        if how == "cancel":
            task.cancel()
            assert await outcome(task) == "cancelled"
            ticket.close()
        else:
            ticket.abandon()
            assert await outcome(task) == "cancelled"
        (question,) = hand.read()
        assert bench.slab.slot(question.slot).state == GONE
        assert bench.desk.free == (3, 2)
        hand.done(question, Said.SKIPPED)
        await until(bench.all_free)
        ticket.close()
        assert bench.desk.free == (4, 2)

    play(scene)


def test_a_closing_desk_tells_who_waits() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        waiter = asyncio.ensure_future(bench.desk.wait())
        await asyncio.sleep(0)
        bench.desk.close()
        for one in (task, waiter):
            error = await outcome(one)
            assert type(error) is Lost
            assert str(error) == "the server is closing"
        bench.desk.close()

    play(scene, slots=1)


def test_tickets_need_a_desk_to_be_made() -> None:
    bench = Bench()
    ticket = bench.desk.claim(seconds=5)
    assert isinstance(ticket, Ticket)
    assert 4 < ticket.deadline - time.monotonic() <= 5
    assert bench.states().count(FREE) == bench.slab.total - 1


# --- no worker ever again -------------------------------------------------------------------


def test_where_no_worker_comes_again_nobody_waits() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        waiter = asyncio.ensure_future(bench.desk.wait())
        await asyncio.sleep(0)
        bench.desk.give_up("the worker has ended: a reason")
        for one in (task, waiter, await asked(bench.desk)):
            error = await outcome(one)
            assert type(error) is Lost
            assert str(error) == "the worker has ended: a reason"
        assert bench.desk.alive == 0
        assert bench.all_free()

    play(scene, slots=1)


def test_nothing_is_kept_of_who_left() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        for _ in range(3):
            task = await asked(bench.desk)
            task.cancel()
            await outcome(task)
        assert bench.desk._unsent == {}
        ticket = bench.desk.claim()
        for _ in range(3):
            waiter = asyncio.ensure_future(bench.desk.wait())
            await asyncio.sleep(0)
            waiter.cancel()
            await outcome(waiter)
        assert bench.desk._waiters == [{}, {}]
        ticket.close()

    play(scene, up=False, slots=1)

"""Workers that come, go and die, as a desk sees it: one outcome for everybody, and the slot."""

from __future__ import annotations

import asyncio
import fcntl
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_bench import Bench, Hand
from serve_scenes import CODES, asked, outcome, play, until

from vqtok.serve.desk import Answer, Desk
from vqtok.serve.line import PIECE, SIZE, Line, Question, Said
from vqtok.serve.outcomes import Broken, Deadly, Lost
from vqtok.serve.slab import TAKEN, Op

# --- workers --------------------------------------------------------------------------------


def test_without_a_worker_questions_wait_for_one() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        assert (bench.desk.alive, bench.desk.in_flight) == (0, 1)
        hand.hello()
        await bench.desk.up()
        await asyncio.sleep(0)
        hand.done(hand.read()[0], codes=CODES)
        assert isinstance(await task, Answer)
        assert bench.all_free()

    play(scene, up=False)


def test_without_a_worker_they_are_lost_in_the_end() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        error = await outcome(await asked(bench.desk, seconds=0.01))
        assert type(error) is Lost
        assert str(error) == "no worker is up"
        assert bench.all_free()
        hand.hello()
        await bench.desk.up()
        assert hand.read() == []

    play(scene, up=False)


def test_the_worker_with_the_least_to_do_is_asked() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        hands = [hand, Hand(bench.line, 1)]
        hands[1].hello()
        await until(lambda: bench.desk.alive == 2)
        tasks = [await asked(bench.desk) for _ in range(4)]
        waiting = [one.read() for one in hands]
        assert [len(one) for one in waiting] == [2, 2]
        for question in waiting[1]:
            hands[1].done(question, codes=CODES)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: bench.desk.in_flight == 2)
        more = [await asked(bench.desk) for _ in range(2)]
        found = hands[1].read()
        assert len(found) == 2
        for one, questions in ((hands[0], waiting[0]), (hands[1], found)):
            for question in questions:
                one.done(question, codes=CODES)
        await asyncio.gather(*tasks, *more)
        assert bench.all_free()

    play(scene, workers=2)


def test_what_a_dead_worker_had_is_asked_again() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        tasks = [await asked(bench.desk) for _ in range(3)]
        questions = hand.read()
        hand.done(questions[0], codes=CODES)
        bench.slab.slot(questions[1].slot).state = TAKEN
        hand.hello()
        again: list[Question] = []
        while len(again) < 2:
            again += await until(hand.read)
        assert [one.uid for one in again] == [2, 3]
        assert [one.attempt for one in again] == [2, 2]
        assert [one.alone for one in again] == [1, 0]
        assert [one.sent for one in again] == [one.sent for one in questions[1:]]
        heads = [bench.slab.slot(one.slot).head for one in again]
        assert [(head.uid, head.attempt, head.size) for head in heads] == [
            (2, 2, (32, 48)),
            (3, 2, (32, 48)),
        ]
        for question in again:
            hand.done(question, codes=CODES)
        assert all(isinstance(one, Answer) for one in await asyncio.gather(*tasks))
        assert bench.all_free()

    play(scene)


def test_two_workers_that_die_over_a_picture_are_enough() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task, other = await asked(bench.desk), await asked(bench.desk)
        for _ in range(2):
            question = (await until(hand.read))[0]
            bench.slab.slot(question.slot).state = TAKEN
            hand.hello()
        error = await outcome(task)
        assert type(error) is Deadly
        assert str(error) == "2 workers died over it"
        (question,) = await until(hand.read)
        assert (question.uid, question.attempt, question.alone) == (2, 3, 0)
        hand.done(question, codes=CODES)
        assert isinstance(await other, Answer)
        assert bench.all_free()

    play(scene)


def test_what_nobody_waits_for_is_not_asked_again() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        task.cancel()
        await outcome(task)
        assert bench.desk.free == (3, 2)
        hand.hello()
        await until(bench.all_free)
        assert bench.desk.free == (4, 2)
        assert hand.read() == []

    play(scene)


def test_a_worker_that_says_goodbye_is_asked_no_more() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        task = await asked(bench.desk)
        assert len(hand.read()) == 1
        hand.say(Said.GOODBYE)
        await until(lambda: not bench.desk.alive)
        assert hand.read() == []
        hand.hello()
        (question,) = await until(hand.read)
        assert (question.attempt, question.alone) == (2, 0)
        hand.generation -= 1
        hand.say(Said.GOODBYE)
        hand.generation += 1
        hand.done(question, codes=CODES)
        assert isinstance(await task, Answer)
        assert bench.desk.alive == 1

    play(scene)


def test_the_end_of_a_process_is_seen_at_once_and_its_answers_count() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        hand.pid = process.pid
        hand.hello()
        await bench.desk.up()
        tasks = [await asked(bench.desk) for _ in range(2)]
        questions = hand.read()
        other = Hand(bench.line, 1)
        other.hello()
        await until(lambda: bench.desk.alive == 2)
        process.kill()
        process.communicate()
        # Said before the desk could look; it comes after a pipe full of nothing.
        for _ in range(2 * PIECE // SIZE):
            hand.say(Said.DONE, uid=10**6)
        hand.done(questions[0], codes=CODES)
        (again,) = await until(other.read)
        assert (again.uid, again.attempt) == (2, 2)
        other.done(again, codes=CODES)
        await asyncio.gather(*tasks)
        assert bench.desk.alive == 1
        assert bench.all_free()

    play(scene, up=False, workers=2)


def test_a_pipe_that_is_full_of_what_a_dead_worker_left_only_delays() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        end = bench.line.ask_end(0, 0)
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        tasks = [await asked(bench.desk) for _ in range(100)]
        hand.hello()  # and the first has died with a pipe full
        await until(lambda: bench.desk._peers[0].full)
        answered: list[int] = []
        while len(answered) < 100:
            for question in hand.read():
                answered.append(question.uid)
                hand.done(question, codes=CODES)
            await asyncio.sleep(0)
        assert answered == list(range(1, 101))
        await asyncio.gather(*tasks)
        assert bench.all_free()
        assert not bench.desk._peers[0].full
        assert not asyncio.get_running_loop().remove_writer(end)

    play(scene, slots=100)


def test_a_full_pipe_is_watched_no_more_once_nothing_is_to_be_written() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        end = bench.line.ask_end(0, 0)
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        tasks = [await asked(bench.desk) for _ in range(70)]
        assert bench.desk._peers[0].full
        hand.say(Said.GOODBYE)
        await until(lambda: not bench.desk.alive)
        assert not bench.desk._peers[0].full
        assert not asyncio.get_running_loop().remove_writer(end)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert bench.all_free()

    play(scene, slots=70)


def test_questions_of_one_turn_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    ask = Line.ask

    def noted(line: Line, desk: int, worker: int, questions: Sequence[Question]) -> int:
        writes.append(len(questions))
        return ask(line, desk, worker, questions)

    monkeypatch.setattr(Line, "ask", noted)

    async def scene(bench: Bench, hand: Hand) -> None:
        tasks = [asyncio.ensure_future(marked(bench.desk, number)) for number in range(8)]
        await asyncio.sleep(0)
        assert writes == []
        await asyncio.sleep(0)
        assert writes == [8]
        assert [question.uid for question in hand.read()] == list(range(1, 9))
        for task in tasks:
            task.cancel()

    play(scene, slots=12)


def test_desks_that_know_nothing_of_each_other_ask_different_workers() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        hands = [[Hand(bench.line, worker, desk) for worker in range(4)] for desk in range(4)]
        for row in hands:
            for one in row:
                one.hello()
        for desk in bench.desks:
            await until(lambda desk=desk: desk.alive == 4)
        tasks = [await asked(desk) for desk in bench.desks]
        assert [sum(len(row[worker].read()) for row in hands) for worker in range(4)] == [1] * 4
        for task in tasks:
            task.cancel()

    play(scene, up=False, workers=4, desks=4)


def test_a_long_clip_counts_as_what_it_takes() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        hands = [hand, Hand(bench.line, 1)]
        hands[1].hello()
        await until(lambda: bench.desk.alive == 2)
        sizes = [(40, 16, 16), *[(16, 16)] * 7, ()]  # of one nothing is known
        tasks = []
        for size in sizes:
            ticket = bench.desk.claim(int(len(size) == 3))
            tasks.append(asyncio.ensure_future(ticket.run(Op.ENCODE, size or (0, 0))))
            for _ in range(3):
                await asyncio.sleep(0)
        assert [[one.uid for one in them.read()] for them in hands] == [[1], list(range(2, 10))]
        assert bench.desk._peers[1].load == 7 * 256 + bench.slab.kinds[0][1] // 3
        for task in tasks:
            task.cancel()

    play(scene, workers=2, slots=8)


# --- laws -----------------------------------------------------------------------------------

MOVES = ("ask", "wait", "leave", "take", "answer", "refuse", "die", "bye", "twice")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 7)), max_size=40))
def test_whatever_happens_everybody_hears_once_and_slots_come_back(
    moves: list[tuple[str, int]],
) -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        tasks: list[asyncio.Task[Any]] = []
        at_hand: list[Question] = []
        for move, pick in [*moves, ("die", 0)]:
            at_hand += hand.read()
            if move in ("ask", "wait"):
                tasks.append(asyncio.ensure_future(marked(bench.desk, len(tasks) + 1)))
            elif move == "leave" and tasks:
                tasks[pick % len(tasks)].cancel()
            elif move == "die":
                at_hand.clear()
                hand.hello()
            elif move == "bye":
                at_hand.clear()
                hand.say(Said.GOODBYE)
                hand.hello()
            elif at_hand:
                act(bench, hand, move, at_hand, pick)
            for _ in range(pick % 4):
                await asyncio.sleep(0)
        await asyncio.wait([asyncio.ensure_future(finish(hand, tasks))])
        for task in tasks:
            assert task.done()
        await until(lambda: hand_back(hand) or bench.all_free())
        assert sorted(bench.desk.free) == [2, 3]

    play(scene, slots=3)


async def marked(desk: Desk, number: int) -> str:
    """A picture with a number of its own, which its answer must have."""
    pixels = np.full((16, 16, 3), number, np.uint8)
    with await desk.wait() as ticket:
        ticket.slot.put("pixels", pixels)
        try:
            answer = await ticket.run(Op.ENCODE, (16, 16))
        except (Lost, Broken):
            return "lost"
        assert answer.parts["codes"].tolist() == [number]
        return "answered"


def act(bench: Bench, hand: Hand, move: str, at_hand: list[Question], pick: int) -> None:
    question = at_hand[pick % len(at_hand)]
    slot = bench.slab.slot(question.slot)
    if move == "take":
        slot.state = TAKEN
        return
    at_hand.remove(question)
    if move == "refuse":
        hand.done(question, Said.BROKEN, message=np.zeros(1, np.uint8))
        return
    for _ in range(2 if move == "twice" else 1):
        hand.say(Said.DONE, *answered(bench, question))


def answered(bench: Bench, question: Question) -> tuple[int, int]:
    slot = bench.slab.slot(question.slot)
    slot.made.clear()
    slot.made.put("codes", slot.parts()["pixels"][0, 0, :1].astype(np.uint16))
    return question.uid, question.attempt


def hand_back(hand: Hand) -> bool:
    """Answer all that still comes."""
    for question in hand.read():
        slot = hand.line.slab.slot(question.slot)
        hand.done(question, codes=slot.parts()["pixels"][0, 0, :1].astype(np.uint16))
    return False


async def finish(hand: Hand, tasks: list[asyncio.Task[Any]]) -> None:
    while not all(task.done() for task in tasks):
        hand_back(hand)
        await asyncio.sleep(0)

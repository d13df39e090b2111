"""Pipes of records: whole ones, in order, to whom they are meant for."""

from __future__ import annotations

import multiprocessing
import os
import select

import pytest
import serve_bench

from vqtok.serve.line import ANSWERED, ASKED, PIECE, SIZE, Answered, Line, Question, Said
from vqtok.serve.slab import Slab


def question(uid: int = 1) -> Question:
    return Question(uid, 2, 3, 4, 1, 0.5, 9.25)


def answered(uid: int = 1) -> Answered:
    return Answered(uid, 2, 3, Said.DONE, 32, 0.125, 0.25)


def line(slots: int = 4, workers: int = 1, desks: int = 1) -> Line:
    return Line(Slab([(slots, 64)], desks), workers)


def test_records_fill_a_piece_of_a_pipe() -> None:
    assert ASKED.size == ANSWERED.size == SIZE
    assert PIECE % SIZE == 0
    assert 0 < PIECE <= select.PIPE_BUF


def test_records_come_out_as_they_went_in() -> None:
    pipes = line()
    assert pipes.ask(0, 0, []) == 0
    assert pipes.ask(0, 0, [question(5), question(2**64 - 1)]) == 2
    assert pipes.questions(0, 0) == [question(5), question(2**64 - 1)]
    assert pipes.questions(0, 0) == []
    pipes.answer(0, 0, [answered(7), answered(8)])
    assert pipes.answers(0, 0) == [answered(7), answered(8)]
    assert pipes.answers(0, 0) == []


def test_every_pair_has_its_own() -> None:
    pipes = line(workers=2, desks=2)
    pairs = [(desk, worker) for desk in (0, 1) for worker in (0, 1)]
    for number, (desk, worker) in enumerate(pairs):
        pipes.ask(desk, worker, [question(number)])
        pipes.answer(desk, worker, [answered(number)])
    for number, (desk, worker) in enumerate(pairs):
        assert pipes.questions(desk, worker) == [question(number)]
        assert pipes.answers(desk, worker) == [answered(number)]


def test_the_ends_tell_of_what_waits() -> None:
    pipes = line(workers=2, desks=2)
    assert not select.select(pipes.question_ends(1) + pipes.answer_ends(1), [], [], 0)[0]
    pipes.ask(0, 1, [question()])
    pipes.answer(1, 0, [answered()])
    assert select.select(pipes.question_ends(1), [], [], 0)[0] == [pipes.question_ends(1)[0]]
    assert select.select(pipes.answer_ends(1), [], [], 0)[0] == [pipes.answer_ends(1)[0]]


def test_a_full_pipe_refuses_and_stays_in_step() -> None:
    pipes = line()
    assert not os.get_blocking(pipes._asked[0][0].writer)
    sent = 0
    while took := pipes.ask(0, 0, [question(sent + uid) for uid in range(150)]):
        sent += took
    assert sent % 150  # of the last ones, a part
    assert [one.uid for one in pipes.questions(0, 0)] == list(range(sent))
    assert pipes.ask(0, 0, [question()]) == 1


def test_a_pipe_takes_what_two_workers_may_leave() -> None:
    slots = 2000
    pipes = line(slots)
    assert pipes.ask(0, 0, [question(uid) for uid in range(2 * slots)]) == 2 * slots
    assert [one.uid for one in pipes.questions(0, 0)] == list(range(2 * slots))


def test_many_answers_arrive_in_order() -> None:
    pipes = line(500)
    pipes.answer(0, 0, [answered(uid) for uid in range(500)])
    assert [one.uid for one in pipes.answers(0, 0)] == list(range(500))


def test_a_nudge_wakes_a_worker_and_asks_nobody() -> None:
    pipes = line(workers=2)
    pipes.nudge(1)
    assert pipes.questions(0, 0) == []
    assert [one.generation for one in pipes.questions(0, 1)] == [0]


def test_a_spawned_child_has_the_pipes_and_the_slab() -> None:
    pipes = line(workers=2)
    pipes.slab.slot(1).clear()
    child = multiprocessing.get_context("spawn").Process(target=serve_bench.echo, args=(pipes,))
    child.start()
    pipes.ask(0, 1, [question(77)])
    child.join()
    assert [one.uid for one in pipes.answers(0, 1)] == [77]
    assert pipes.slab.slot(1).made.parts()["codes"].tolist() == [77]


def test_close_closes_every_end() -> None:
    pipes = line(workers=2, desks=2)
    ends = [*pipes.question_ends(0), *pipes.answer_ends(1)]
    pipes.close()
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)

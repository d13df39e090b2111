"""Desks and workers for tests: a worker that is played by hand, and real ones in processes."""

from __future__ import annotations

import multiprocessing
import os
import select
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt
from serve_stubs import StubEngine, picture, stub_facts

from vqtok.serve.board import Board, Phase
from vqtok.serve.desk import Answer, Desk
from vqtok.serve.line import Answered, Line, Question, Said
from vqtok.serve.local import Sizes
from vqtok.serve.meters import Meters
from vqtok.serve.shared import Shared
from vqtok.serve.slab import FREE, Head, Op, Slab, slab_for
from vqtok.serve.worker import work


class Bench:
    """All that desks and workers of one model share."""

    def __init__(
        self, engine: StubEngine | None = None, *, workers: int = 1, desks: int = 1, slots: int = 4
    ) -> None:
        self.engine = engine or StubEngine()
        facts = self.engine.facts
        self.slab = slab_for(facts, Sizes(), slots=slots, clip_slots=2, desks=desks)
        self.line = Line(self.slab, workers)
        self.board = Board({facts.name: workers})
        self.meters = Meters({facts.name: facts.traits.codebook_size}, rows=1 + workers)
        self.desks = [Desk(self.line, desk, facts, timeout=20.0) for desk in range(desks)]
        self.desk = self.desks[0]

    def work(self, worker: int = 0, **changes: Any) -> None:
        """A worker here and now, until nothing waits."""
        given: dict[str, Any] = {"max_batch": 32, "stop": always, **changes}
        meters = self.meters.row(1 + worker)
        work(self.line, worker, self.engine, board=self.board, meters=meters, **given)

    def spawn(self, worker: int = 0) -> BaseProcess:
        """A worker in a process of its own, until it is killed or its parent is gone."""
        given = (self.line, worker, self.engine, self.board, self.meters.row(1 + worker))
        process = multiprocessing.get_context("spawn").Process(
            target=work_here, args=given, daemon=True
        )
        process.start()
        return process

    def states(self) -> list[int]:
        return list(self.slab.states)

    def all_free(self) -> bool:
        return set(self.states()) == {FREE} and not any(desk.in_flight for desk in self.desks)

    def ask(
        self,
        part: npt.NDArray[Any],
        uid: int,
        *,
        op: Op = Op.ENCODE,
        name: str = "pixels",
        size: tuple[int, ...] = (0, 0),
        deadline: float = 1e9,
        **changes: int,
    ) -> Question:
        """A question as a desk would send it, by hand: `uid` has the slot of that number."""
        slot = self.slab.slot(uid)
        slot.clear()
        slot.put(name, part)
        slot.head = Head(uid, 1, op, size)
        given = {"attempt": 1, "generation": 1, "slot": uid, "alone": 0, **changes}
        question = Question(uid=uid, sent=float(uid), deadline=deadline, **given)
        assert self.line.ask(0, 0, [question])
        return question

    def said(self, worker: int = 0) -> list[Answered]:
        """All that a worker told desk 0."""
        return self.line.answers(0, worker)


def work_here(line: Line, worker: int, engine: StubEngine, board: Board, meters: Meters) -> None:
    parent = os.getppid()
    stop = lambda: os.getppid() != parent  # noqa: E731
    work(line, worker, engine, max_batch=4, stop=stop, board=board, meters=meters)


def always() -> bool:
    return True


class Hand:
    """A worker played by hand."""

    def __init__(self, line: Line, worker: int = 0, desk: int = 0) -> None:
        self.line, self.worker, self.desk = line, worker, desk
        self.generation = 0
        self.pid = os.getpid()

    def say(self, said: Said, uid: int = 0, attempt: int = 0, batch: int = 1) -> None:
        record = Answered(uid, attempt, self.generation, said, batch, 0.25, 0.5)
        self.line.answer(self.desk, self.worker, [record])

    def hello(self) -> None:
        """A new worker; whoever was here before is dead."""
        self.generation += 1
        self.say(Said.HELLO, uid=self.pid)

    def read(self) -> list[Question]:
        """What this worker is to answer."""
        found = self.line.questions(self.desk, self.worker)
        return [question for question in found if question.generation == self.generation]

    def done(self, question: Question, said: Said = Said.DONE, **parts: Any) -> None:
        half = self.line.slab.slot(question.slot).made
        half.clear()
        for name, part in parts.items():
            half.put(name, part)
        self.say(said, question.uid, question.attempt)


async def encode(
    desk: Desk, pixels: npt.NDArray[np.uint8], op: Op = Op.ENCODE, kind: int = 0
) -> tuple[dict[str, npt.NDArray[Any]], Answer]:
    """The parts (copied) and the answer, as somebody gets them who waits for a slot."""
    with await desk.wait(kind) as ticket:
        ticket.slot.put("pixels", pixels)
        answer = await ticket.run(op, pixels.shape[:-1])
        return {name: part.copy() for name, part in answer.parts.items()}, answer


def slab_memory(slab: Slab) -> int:
    """Bytes that the memory of a slab takes now."""
    return os.fstat(slab._descriptor).st_blocks * 512


def fill(memory: Shared) -> None:
    """What a child does with memory that it was handed."""
    memory.array("u1", 5)[...] = 5


def echo(line: Line) -> None:
    """Worker 1 in a child: one answer, with the question's uid as code in slot 1."""
    select.select(line.question_ends(1), [], [], 20)
    (question,) = line.questions(0, 1)
    half = line.slab.slot(1).made
    half.clear()
    half.put("codes", np.array([question.uid], np.uint32))
    line.answer(0, 1, [Answered(question.uid, 1, 1, Said.DONE, 1, 0.0, 0.0)])


def sit(board: Board) -> None:
    """In a child: take the second seat of b."""
    board.seat("b", 1).take()
    board.seat("b", 1).ready = True
    board.phase = Phase.READY


def count(meters: Meters) -> None:
    """In a child."""
    meters.add("vqtok_requests_total", 5, model="a", op="encode", code=200)
    meters.mark("a", np.array([3]))


BAD = (1, 2, 3)
SMALL = (32, 48)


def small_bench(slots: int = 8, **settings: Any) -> Bench:
    """A bench of a stub for pictures of any size."""
    return Bench(StubEngine(stub_facts(size=None), **settings), slots=slots)


def waiting_bench(count: int, bad: Sequence[int] = (), **settings: Any) -> Bench:
    """A bench where so many small pictures wait, some with the colour that fails."""
    made = small_bench(**settings)
    for uid in range(count):
        made.ask(picture(uid, SMALL, BAD if uid in bad else None), uid)
    return made


def outcomes(made: Bench) -> dict[int, Said]:
    """What was said of each question; of each once."""
    said = [(one.uid, Said(one.said)) for one in made.said() if one.said > Said.GOODBYE]
    assert len(dict(said)) == len(said)
    return dict(said)

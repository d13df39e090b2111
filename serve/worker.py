"""What a worker does all day: gather, run, answer; and what it does when a batch fails."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vqtok.errors import InputError
from vqtok.serve.engine import Item
from vqtok.serve.gather import Gather, Waiting
from vqtok.serve.line import Answered, Line, Said
from vqtok.serve.slab import GONE, TAKEN, Op
from vqtok.serve.streams import Held

if TYPE_CHECKING:
    from vqtok.serve.board import Board, Seat
    from vqtok.serve.engine import Engine, Parts
    from vqtok.serve.meters import Meters

__all__ = ["POISONED", "Unwanted", "end_process", "work"]

# What a worker ends with when its device can't be used any more.
POISONED = 70
# Seconds between looks at `stop` while nothing comes.
LOOK = 1.0
# Bytes of a message.
LONGEST = 2000

# What says that there was not enough memory, of a device or its libraries.
SHORT = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
# What says that the context of a device is beyond repair: each later call would fail as well.
DEAD = ("CUDA error", "HIP error")

log = logging.getLogger(__name__)


class Unwanted(Exception):
    """Nobody waits any more for what the engine is at."""


def end_process(failure: Exception) -> None:
    """End this process at once: its device can't be used any more."""
    os._exit(POISONED)


def work(
    line: Line,
    worker: int,
    engine: Engine,
    *,
    max_batch: int,
    stop: Callable[[], bool],
    board: Board,
    meters: Meters,
    poisoned: Callable[[Exception], None] = end_process,
) -> None:
    """Answer the questions of all desks, until `stop` says so and those that wait are answered.

    worker     its number; nobody else may have it at the same time
    engine     warm
    max_batch  the longest batch, where the engine takes as many together
    meters     a row of its own
    poisoned   what is done when the device can't be used any more: end the process, or raise
    """
    seat = board.seat(engine.facts.name, worker)
    own = _Worker(line, worker, engine, max_batch, seat, meters, poisoned)
    with _pulse(seat):
        own.say(Said.HELLO)
        seat.ready = True
        try:
            own.loop(stop)
        finally:
            seat.ready = False
            own.say(Said.GOODBYE)


class _Worker:
    def __init__(
        self,
        line: Line,
        number: int,
        engine: Engine,
        max_batch: int,
        seat: Seat,
        meters: Meters,
        poisoned: Callable[[Exception], None],
    ) -> None:
        self.line, self.number, self.engine, self.max_batch = line, number, engine, max_batch
        self.seat, self.meters, self.generation = seat, meters, seat.take()
        self.model, self.poisoned = engine.facts.name, poisoned
        self.gather = Gather(self.most)
        self.streams = Held(engine.passage)
        self.poll = select.poll()
        self.desks = {end: desk for desk, end in enumerate(line.question_ends(number))}
        for end in self.desks:
            self.poll.register(end, select.POLLIN)

    def say(self, said: Said) -> None:
        """To all desks."""
        record = Answered(os.getpid(), 0, self.generation, said, 0, 0.0, 0.0)
        for desk in range(self.line.desks):
            self.line.answer(desk, self.number, [record])

    def loop(self, stop: Callable[[], bool]) -> None:
        """Once told to stop, it reads no more than waits by then: desks ask others for the rest."""
        while not stop():
            self.listen(0 if len(self.gather) else LOOK)
            if len(self.gather):
                self.next_batch()
        self.listen(0)
        while len(self.gather):
            self.next_batch()

    def most(self, waiting: Waiting) -> int:
        """How many like this one go together."""
        try:
            return min(self.max_batch, self.engine.rows(waiting.item))
        except Exception:
            return 1  # what is wrong with it, `run` says

    def listen(self, seconds: float) -> None:
        for end, _ in self.poll.poll(1000 * seconds):
            self.read(self.desks[end])

    def read(self, desk: int) -> None:
        """Take in what a desk has asked, but for what was meant for somebody else."""
        for question in self.line.questions(desk, self.number):
            if question.generation != self.generation:
                continue
            if not question.attempt:
                self.streams.forget(desk, question)
                continue
            slot = self.line.slab.slot(question.slot)
            head = slot.head
            if (head.uid, head.attempt) == (question.uid, question.attempt):
                item = Item(slot.parts(), head.size)
                self.gather.add(Waiting(desk, question, slot, Op(head.op), item))

    def next_batch(self) -> None:
        key, taken = self.gather.take()
        self.seat.busy()
        self.run(key, taken)
        self.seat.idle()

    def run(self, key: Hashable, taken: list[Waiting]) -> None:
        """Answer a batch; one that fails is halved until only what it fails on is left."""
        began = time.monotonic()
        batch = self.wanted(taken, began)
        if not batch:
            return
        beat = partial(self.beat, batch)
        try:
            made = self.make(batch, beat)
            failure = _miscount(made, batch)
        except Unwanted:
            self.answer([(waiting, Said.SKIPPED) for waiting in batch], began)
            return
        except Exception as error:
            failure = error
        if failure is None:
            self.finish(batch, made, began)
            self.gather.went_well(key, len(batch))
            return
        self.seat.beat()
        self.judge(key, batch, failure, began)

    def make(self, batch: list[Waiting], beat: Callable[[], None]) -> list[Parts]:
        """What the engine makes of a batch; a chunk of a stream is alone."""
        if batch[0].question.stream:
            return [self.streams.step(batch[0], beat)]
        return self.engine.run(batch[0].op, [waiting.item for waiting in batch], beat)

    def wanted(self, taken: list[Waiting], now: float) -> list[Waiting]:
        """Those that somebody still waits for."""
        batch, left = [], []
        for waiting in taken:
            if waiting.slot.state == GONE:
                left.append((waiting, Said.SKIPPED))
            elif waiting.question.deadline < now:
                left.append((waiting, Said.LATE))
            else:
                waiting.slot.state = TAKEN
                batch.append(waiting)
        self.answer(left, now)
        return batch

    def beat(self, batch: list[Waiting]) -> None:
        """What an engine calls while it runs."""
        self.seat.beat()
        if all(waiting.slot.state == GONE for waiting in batch):
            raise Unwanted

    def judge(self, key: Hashable, batch: list[Waiting], failure: Exception, began: float) -> None:
        """What to do about a batch that failed."""
        half = (len(batch) + 1) // 2
        if _memory_ran_out(failure):
            _let_go(failure)
            if len(batch) > 1:
                self.gather.lower(key, half)
        elif _poisoned(failure):
            log.critical("the device of this worker can't be used any more: %s", failure)
            self.poisoned(failure)
        if len(batch) > 1:
            log.info("a batch of %d failed (%r); trying halves", len(batch), failure)
            self.run(key, batch[:half])
            self.run(key, batch[half:])
        else:
            self.fail(batch[0], failure, began)

    def finish(self, batch: list[Waiting], made: Sequence[Parts], began: float) -> None:
        """Write what was made into the slots, and tell the desks."""
        ended = time.monotonic()
        done = []
        op = batch[0].op.name.lower()
        for waiting, parts in zip(batch, made, strict=True):
            try:
                self.write(waiting, parts)
            except Exception as error:
                problem = RuntimeError(f"its answer can't be handed over: {error}")
                self.fail(waiting, problem, began)
            else:
                done.append((waiting, Said.DONE))
                queued = began - waiting.question.sent
                self.meters.add("vqtok_queue_seconds", queued, model=self.model, op=op)
        self.answer(done, began, ended - began)
        self.meters.add("vqtok_model_seconds", ended - began, model=self.model, op=op)
        self.meters.add("vqtok_batch_size", len(batch), model=self.model, op=op)

    def write(self, waiting: Waiting, parts: Parts) -> None:
        half = waiting.slot.made
        half.clear()
        for name, array in parts.items():
            half.put(name, array)
        if "codes" in parts:
            self.meters.mark(self.model, parts["codes"])

    def fail(self, waiting: Waiting, failure: Exception, began: float) -> None:
        """Tell a desk what was wrong with one picture."""
        refused = isinstance(failure, InputError)
        text = str(failure) if refused else f"{type(failure).__name__}: {failure}"
        if not refused:
            log.error("a picture failed (%s)", waiting.op.name.lower(), exc_info=failure)
        half = waiting.slot.made
        half.clear()
        message = text.encode(errors="replace")[: min(half.capacity, LONGEST)]
        half.put("message", np.frombuffer(message, np.uint8))
        self.answer([(waiting, Said.REFUSED if refused else Said.BROKEN)], began)

    def answer(self, answers: list[tuple[Waiting, Said]], began: float, ran: float = 0.0) -> None:
        records: dict[int, list[Answered]] = {}
        for waiting, said in answers:
            question = waiting.question
            records.setdefault(waiting.desk, []).append(
                Answered(
                    question.uid,
                    question.attempt,
                    self.generation,
                    said,
                    len(answers),
                    began - question.sent,
                    ran,
                )
            )
        for desk, these in records.items():
            self.line.answer(desk, self.number, these)


@contextmanager
def _pulse(seat: Seat) -> Iterator[None]:
    """Beat beside what goes on, so that a process that stands still can be told from a batch."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(LOOK):
            seat.pulse()

    threading.Thread(target=beat, name="vqtok-pulse", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _miscount(made: Sequence[Parts], batch: Sequence[Waiting]) -> Exception | None:
    if len(made) == len(batch):
        return None
    return RuntimeError(f"the engine gave {len(made)} answers to {len(batch)} questions")


def _memory_ran_out(error: Exception) -> bool:
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or any(words in str(error) for words in SHORT)


def _poisoned(error: Exception) -> bool:
    """Whether a device can't be used any more."""
    named = type(error).__name__ == "AcceleratorError"
    return named or any(words in str(error) for words in DEAD)


def _let_go(error: Exception) -> None:
    """Free what the failed batch held on the device: by its frames, then by the allocator."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()

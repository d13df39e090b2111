"""The pipes between desks and workers, and what travels in them: records of 64 bytes.

Every pipe has one writer and one reader, and is written and read in whole records of which a page
holds a whole number, so that a process may be killed at any instant: no lock is left held, and
no pipe out of step.

What keeps slots safe:
- A question names the generation of the worker that it is meant for, and workers skip what is
  meant for others; so what a dead worker has read or left in its pipe is dead with it.
- A desk takes a slot back when that worker has answered, said goodbye or ended, never before. It
  reads what a dead worker still answered before it sends the rest again, with the next attempt.
- An answer counts when the desk waits for this uid, attempt and generation; so only once.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any, NamedTuple

from vqtok.serve.shared import inherited
from vqtok.serve.slab import Slab

__all__ = ["Answered", "Line", "Pipe", "Question", "Said"]

SIZE = 64
# A pipe takes so many bytes at once or not at all.
PIECE = select.PIPE_BUF // SIZE * SIZE
# Bytes that a reader takes at once.
GULP = 1 << 16
ASKED = struct.Struct("<QIIIIddQII8x")
ANSWERED = struct.Struct("<QIIIIdd24x")
# Linux takes pipes up to this from everybody.
WIDEST = 1 << 20


class Said(IntEnum):
    """What a worker's record says."""

    HELLO = 1  # it is up; uid is its pid
    GOODBYE = 2  # it takes nothing more
    DONE = 3
    REFUSED = 4
    BROKEN = 5
    LATE = 6  # the deadline had come when its turn did
    SKIPPED = 7  # nobody waited any more


class Question(NamedTuple):
    """A record from a desk to a worker.

    stream  that the slot holds the next chunk of, or 0; without an attempt nobody goes on with it
    step    how many chunks came before it
    last    whether none comes after it
    """

    uid: int
    attempt: int
    generation: int
    slot: int
    alone: int  # whether no other may share its batch, as when a worker died over it
    sent: float
    deadline: float
    stream: int = 0
    step: int = 0
    last: int = 0


class Answered(NamedTuple):
    """A record from a worker to a desk; an answer, or tidings with 0 for what they lack."""

    uid: int
    attempt: int
    generation: int
    said: int
    batch: int
    queued: float
    ran: float


class Pipe:
    """One direction between one desk and one worker. The reader never waits."""

    reader = writer = -1

    def __init__(self, records: int) -> None:
        self._open(*os.pipe())
        _widen(self.writer, records * SIZE)

    def _open(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer
        os.set_blocking(reader, False)

    def read(self) -> bytes:
        """All records that wait."""
        found = b""
        with suppress(BlockingIOError):
            while piece := os.read(self.reader, GULP):
                found += piece
                if len(piece) < GULP:
                    break
        return found

    def close(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            os.close(self.writer)
            self.reader = self.writer = -1

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()

    def __getstate__(self) -> tuple[Any, Any]:
        return inherited(self.reader), inherited(self.writer)

    def __setstate__(self, ends: tuple[Any, Any]) -> None:
        self._open(ends[0].detach(), ends[1].detach())


class Line:
    """All pipes of one model, and the slab that their records are about.

    slab     partitioned among the desks
    workers  how many there are
    """

    def __init__(self, slab: Slab, workers: int = 1) -> None:
        self.slab, self.workers, self.desks = slab, workers, slab.desks
        # A worker that has died may have left a pipe full of what is sent again.
        records = 2 * sum(count for count, _ in slab.kinds) + PIECE // SIZE
        self._asked = [[Pipe(records) for _ in range(workers)] for _ in range(self.desks)]
        self._said = [[Pipe(records) for _ in range(workers)] for _ in range(self.desks)]
        for row in self._asked:
            for pipe in row:
                os.set_blocking(pipe.writer, False)

    # What a desk does.

    def answer_ends(self, desk: int) -> list[int]:
        """The file descriptors that tell a desk of answers, a worker each."""
        return [pipe.reader for pipe in self._said[desk]]

    def ask_end(self, desk: int, worker: int) -> int:
        """The file descriptor that tells a desk when a worker's pipe takes questions again."""
        return self._asked[desk][worker].writer

    def ask(self, desk: int, worker: int, questions: Sequence[Question]) -> int:
        """Send questions, as many as the pipe takes; how many that were."""
        records = b"".join([ASKED.pack(*question) for question in questions])
        for start in range(0, len(records), PIECE):
            try:
                os.write(self._asked[desk][worker].writer, records[start : start + PIECE])
            except BlockingIOError:
                return start // SIZE
        return len(questions)

    def answers(self, desk: int, worker: int) -> list[Answered]:
        """What a worker has said since."""
        found = self._said[desk][worker].read()
        return [Answered._make(record) for record in ANSWERED.iter_unpack(found)]

    def nudge(self, worker: int) -> None:
        """Wake a worker, so that it looks whether to stop; only from the process of desk 0."""
        self.ask(0, worker, [Question(0, 0, 0, 0, 0, 0.0, 0.0)])

    # What a worker does.

    def question_ends(self, worker: int) -> list[int]:
        """The file descriptors that tell a worker of questions, a desk each."""
        return [row[worker].reader for row in self._asked]

    def questions(self, desk: int, worker: int) -> list[Question]:
        """What a desk has asked since."""
        found = self._asked[desk][worker].read()
        return [Question._make(record) for record in ASKED.iter_unpack(found)]

    def answer(self, desk: int, worker: int, answers: Sequence[Answered]) -> None:
        """Send answers, in the end all of them: it waits while the pipe is full."""
        records = b"".join([ANSWERED.pack(*answer) for answer in answers])
        for start in range(0, len(records), PIECE):
            os.write(self._said[desk][worker].writer, records[start : start + PIECE])

    def close(self) -> None:
        """Close all pipes, in this process."""
        for row in (*self._asked, *self._said):
            for pipe in row:
                pipe.close()


def _widen(descriptor: int, length: int) -> None:
    """Make a pipe take `length` bytes, as far as the system lets us: whoever finds one full goes on
    writing once it takes more."""
    setting = getattr(fcntl, "F_SETPIPE_SZ", None)
    if setting is not None and length > 1 << 16:
        with suppress(PermissionError):
            fcntl.fcntl(descriptor, setting, min(length, WIDEST))

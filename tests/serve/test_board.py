"""What processes see of each other."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time

import pytest
import serve_bench

from vqtok.errors import UnknownNameError
from vqtok.serve import board as module
from vqtok.serve.board import Board, Phase, watch_exit


def test_a_server_begins_with_nothing_up() -> None:
    board = Board({"a": 2, "b": 1})
    assert board.phase is Phase.STARTING
    assert [len(board.seats(model)) for model in ("a", "b")] == [2, 1]
    assert board.up("a") == board.up("b") == 0
    seat = board.seat("b", 0)
    assert (seat.pid, seat.generation, seat.ready, seat.last_beat, seat.busy_since) == (0,) * 5


def test_phases() -> None:
    board = Board({})
    for phase in Phase:
        board.phase = phase
        assert board.phase is phase


def test_seats_do_not_overlap() -> None:
    board = Board({"a": 2, "b": 2})
    seats = [*board.seats("a"), *board.seats("b")]
    for number, seat in enumerate(seats):
        for _ in range(number + 1):
            seat.take()
            seat.restarted()
        seat.ready = bool(number % 2)
    assert [seat.generation for seat in seats] == [1, 2, 3, 4]
    assert [seat.restarts for seat in seats] == [1, 2, 3, 4]
    assert [seat.ready for seat in seats] == [False, True, False, True]
    assert board.phase is Phase.STARTING


def test_an_unknown_model() -> None:
    with pytest.raises(UnknownNameError) as error:
        Board({"photo": 1}).seats("foto")
    assert str(error.value) == (
        "there is no model called 'foto' here. Did you mean 'photo'? Known: photo."
    )


def test_who_takes_a_seat_is_not_ready() -> None:
    seat = Board({"a": 1}).seat("a", 0)
    seat.ready = True
    seat.busy()
    assert seat.take() == 1
    assert (seat.ready, seat.busy_since, seat.pid) == (False, 0.0, os.getpid())


def test_beats_move_what_a_batch_is_judged_by_and_pulses_do_not() -> None:
    seat = Board({"a": 1}).seat("a", 0)
    seat.beat()
    assert seat.busy_since == 0
    seat.busy()
    since, beat = seat.busy_since, seat.last_beat
    time.sleep(0.001)
    seat.pulse()
    assert seat.busy_since == since
    assert seat.last_beat > beat
    seat.beat()
    assert seat.busy_since > since
    seat.idle()
    assert seat.busy_since == 0


def test_up_is_ready_and_alive() -> None:
    board = Board({"a": 2})
    one, two = board.seats("a")
    one.take()
    assert board.up("a") == 0
    one.ready = True
    two.ready = True
    assert board.up("a") == 1
    time.sleep(0.01)
    assert board.up("a", patience=0.005) == 0


def test_who_is_started_in_place_of_another_is_not_up_while_it_warms_up() -> None:
    board = Board({"a": 1})
    seat = board.seat("a", 0)
    seat.take()
    seat.ready = True
    seat.busy()  # and there it is killed
    seat.restarted()
    seat.pulse()
    assert (board.up("a"), seat.busy_since, seat.restarts) == (0, 0, 1)


def test_a_spawned_child_writes_to_the_same_board() -> None:
    board = Board({"a": 1, "b": 2})
    child = multiprocessing.get_context("spawn").Process(target=serve_bench.sit, args=(board,))
    child.start()
    child.join()
    seat = board.seat("b", 1)
    assert (seat.pid, seat.generation, seat.ready) == (child.pid, 1, True)
    assert board.phase is Phase.READY


@pytest.mark.parametrize("pidfd", [True, False])
def test_the_end_of_a_process_is_told_once(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.setattr(module, "LOOK", 0.01)
    ends: list[float] = []

    async def watch() -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        stop = watch_exit(asyncio.get_running_loop(), process.pid, lambda: ends.append(1))
        await asyncio.sleep(0.05)
        assert ends == []
        await asyncio.to_thread(process.communicate)
        while not ends:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.03)
        stop()

    asyncio.run(watch())
    assert ends == [1]


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_watch_can_be_ended(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.setattr(module, "LOOK", 0.01)
    ends: list[float] = []

    async def watch() -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        watch_exit(asyncio.get_running_loop(), process.pid, lambda: ends.append(1))()
        await asyncio.to_thread(process.communicate)
        await asyncio.sleep(0.05)

    asyncio.run(watch())
    assert ends == []


def test_a_process_that_has_ended_already() -> None:
    ends: list[float] = []
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    async def watch() -> None:
        watch_exit(asyncio.get_running_loop(), process.pid, lambda: ends.append(1))
        assert ends == []
        await asyncio.sleep(0.01)

    asyncio.run(watch())
    assert ends == [1]

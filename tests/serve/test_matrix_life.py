"""Rows of failures that end a server, or take long, with the real tokenizer. Minutes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serve_bodies import raw, told
from serve_processes import PATIENCE, Served, until
from serve_real import asked, picture, real, right, stopped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

MB = 1_000_000


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(160) as some:
        yield some


def codes(there: Served, seed: int = 0) -> httpx.Response:
    return httpx.post(there.url + "/v1/encode", timeout=3 * PATIENCE, **raw(picture(seed)))


def works(there: Served) -> bool:
    """Whether it answers rightly, with all slots free again."""
    there.wait_idle()
    return right(codes(there).content, picture(0))


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


# --- workers -------------------------------------------------------------------------------------


def test_a_worker_that_stands_still_is_replaced(pool: ThreadPoolExecutor) -> None:
    with real(hang_timeout=1) as there, stopped(there):
        asking = asked(pool, there, range(8))
        for seed, one in enumerate(asking):
            assert right(one.result().content, picture(seed))
        assert works(there)
        status, lines = there.end()
    assert status == 0
    assert "vqtok: worker 0 of photo-tiny hangs; it is ended" in lines


def test_a_worker_that_stands_still_is_waited_for_until_the_deadline() -> None:
    with real(timeout=2, hang_timeout=100) as there:
        with stopped(there):
            late = codes(there)
            assert told(late) == (504, "deadline", "the answer was not there in time")
            assert there.held() == 1  # the worker may write there yet
        assert works(there)
        assert there.end()[0] == 0


def test_what_two_workers_died_over_is_given_up() -> None:
    """A picture of 1,024 x 1,024 keeps the model busy for long enough to be killed over it."""
    with real(size=1024, max_batch=1, timeout=300, hang_timeout=100) as there:
        with ThreadPoolExecutor(1) as pool:
            lost, kills = pool.submit(codes, there), 0
            while not lost.done() and kills < 8:  # one that had not begun was no death over it
                until(lambda: lost.done() or (there.is_ready() and there.held()), "it is at work")
                [worker] = until(lambda: there.of("worker"), "a worker is there")
                time.sleep(0.1)
                os.kill(worker, signal.SIGKILL)
                until(lambda dead=worker: there.of("worker") not in ([dead], []), "it is replaced")
                kills += 1
            answer = lost.result()
        assert kills > 1
        assert told(answer) == (503, "worker_died", "2 workers died over it")
        assert "retry-after" not in answer.headers
        there.wait_idle()
        assert codes(there).status_code == 200
        assert there.end()[0] == 0


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [False, True], ids=["main", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_told_to_end(number: signal.Signals, group: bool, pool: ThreadPoolExecutor) -> None:
    """What is under way is finished, and what comes then is told to ask another."""
    before = shared_memory()
    with real(slots=64) as there:
        with stopped(there):
            asking = asked(pool, there, range(48))
            until(lambda: there.held() == 48, "all have come in")
            (os.killpg if group else os.kill)(there.pid, number)
            until(lambda: not there.is_ready(), "it is not ready")
            assert there.encode() in (503, 0)  # as long as it listens, 503
        for seed, one in enumerate(asking):
            assert one.result().status_code == 200
            assert right(one.result().content, picture(seed))
        status, lines = there.ended()
        assert there.ask("/live")[0] == 0
    assert (status, lines[-1]) == (0, "vqtok: stopped")
    assert shared_memory() <= before


def test_work_is_taken_while_balancers_look_away(pool: ThreadPoolExecutor) -> None:
    with real(drain_delay=3) as there:
        there.process.send_signal(signal.SIGTERM)
        until(lambda: not there.is_ready(), "it is not ready")
        assert {one.result().status_code for one in asked(pool, there, range(8))} == {200}
        assert there.ask("/live")[0] == 200
        assert there.ended()[0] == 0


def test_a_second_interrupt_ends_it_at_once(pool: ThreadPoolExecutor) -> None:
    with real() as there, stopped(there):
        asking = pool.submit(codes, there)
        until(there.held, "it waits")
        there.process.send_signal(signal.SIGINT)
        until(lambda: not there.is_ready(), "it is not ready")
        assert there.end(signal.SIGINT)[0] == 130
        with pytest.raises(httpx.TransportError):
            asking.result()


def test_as_pid_1(pool: ThreadPoolExecutor) -> None:
    shell = ("unshare", "--pid", "--fork", "--mount-proc")
    tried = shutil.which("unshare") and subprocess.run([*shell, "true"], capture_output=True)
    if not tried or tried.returncode:
        pytest.skip("cannot make a name space of processes here")
    with real(before=shell, slots=64) as there:
        asking = asked(pool, there, range(48))
        first = Path(f"/proc/{there.pid}/task/{there.pid}/children").read_text().split()
        until(lambda: there.held() + there.answered() >= 48, "all have come in")
        os.kill(int(first[0]), signal.SIGTERM)
        assert {one.result().status_code for one in asking} == {200}
        assert there.ended()[0] == 0


# --- what cannot be mended -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_an_api_process_that_is_gone_ends_it(how: str, pool: ThreadPoolExecutor) -> None:
    """So that connections are refused, and whoever started it starts another."""
    with real(api_processes=2, hang_timeout=1) as there:
        first = there.of("api")[0]
        os.kill(first, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        status, lines = there.ended()
        assert there.ask("/live")[0] == 0
    assert status == 1
    reason = "ended (SIGKILL)" if how == "killed" else "hangs"
    assert lines[-1] == f"vqtok: an API process {reason}; the server ends"


def test_nothing_outlives_the_main_process(pool: ThreadPoolExecutor) -> None:
    before = shared_memory()
    with real(api_processes=2) as there:
        with stopped(there):  # and goes on then: what stands still can't see who is gone
            asking = pool.submit(there.encode)
            until(there.held, "it waits")
            there.process.kill()
        assert asking.result() in (0, 200)  # a worker goes on for as long as it takes to see it
        assert there.ended()[0] == -signal.SIGKILL
        assert there.ask("/live")[0] == 0
    assert shared_memory() <= before


def test_helpers_that_are_killed_stop_nothing(pool: ThreadPoolExecutor) -> None:
    """There is no manager that requests go through; Python's tracker of resources is all."""
    with real() as there:
        kinds = [there.of(kind) for kind in ("api", "worker", "tracker")]
        assert [len(found) for found in kinds] == [1, 1, 1]
        os.kill(kinds[2][0], signal.SIGKILL)
        assert {one.result().status_code for one in asked(pool, there, range(8))} == {200}
        os.kill(kinds[1][0], signal.SIGKILL)  # a new worker wants a tracker
        until(lambda: there.of("worker") not in (kinds[1], []), "it is replaced")
        assert works(there)
        assert there.end()[0] == 0


# --- load ----------------------------------------------------------------------------------------


def test_ten_times_what_it_can_hold(pool: ThreadPoolExecutor) -> None:
    """Every request is answered, by codes or by 429, and the memory stays as it is."""
    with real(api_processes=2, slots=8) as there:
        assert works(there)
        sizes = []
        for _ in range(3):
            answers = [one.result() for one in asked(pool, there, range(1000))]
            found = Counter(one.status_code for one in answers)
            assert set(found) == {200, 429}, found
            assert all("retry-after" in one.headers for one in answers if one.status_code == 429)
            there.wait_idle()
            sizes.append(there.resident())
        assert max(sizes[1:]) - sizes[0] < 15 * MB
        assert works(there)
        assert there.end()[0] == 0

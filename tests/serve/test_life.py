"""Servers of stubs as processes: signalled, killed and hung, as facts of life go."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from serve_processes import Served, free_port, picture, runs, served, until
from serve_stubs import StubEngine, stub_facts

from vqtok.errors import ConfigError
from vqtok.serve.main import run
from vqtok.serve.settings import ServeSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

KILL, HANG, FATAL = (1, 2, 3), (4, 5, 6), (7, 8, 9)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as some:
        yield some


def many(pool: ThreadPoolExecutor, there: Served, count: int) -> list[Future[int]]:
    """So many requests, all of which have come in, and some are done, when this returns."""
    answered, batches = there.answered(), there.metric("vqtok_batch_size_count")
    asked = [pool.submit(there.encode) for _ in range(count)]

    # In this order one that ends meanwhile is seen in neither place, and never in both.
    until(lambda: there.answered() - answered + there.held() >= count, "all have come in")
    until(lambda: there.metric("vqtok_batch_size_count") > batches, "a batch is done")
    return asked


def statuses(asked: list[Future[int]]) -> dict[int, int]:
    return dict(Counter(one.result() for one in asked))


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()


# --- workers that end -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sturdy(pool: ThreadPoolExecutor) -> Iterator[Served]:
    """One server, through all that workers may do."""
    engine = {"per_batch": 0.2, "kill": KILL, "fatal": FATAL}
    with served(engine, api_processes=1, max_batch=4, timeout=50.0) as there:
        yield there
        there.wait_idle()
        status, lines = there.end()
        assert status == 0, lines


def test_killed_workers_batch_is_done_by_the_next(sturdy: Served, pool: ThreadPoolExecutor) -> None:
    sturdy.wait_idle()
    asked = many(pool, sturdy, 20)
    [worker] = sturdy.of("worker")
    os.kill(worker, signal.SIGKILL)
    assert statuses(asked) == {200: 20}
    assert sturdy.of("worker") != [worker]
    assert sturdy.metric("vqtok_worker_restarts_total") >= 1


def test_what_kills_two_workers_is_given_up_alone(sturdy: Served, pool: ThreadPoolExecutor) -> None:
    sturdy.wait_idle()
    asked = many(pool, sturdy, 8)
    bad = pool.submit(sturdy.encode, picture(KILL))
    asked += [pool.submit(sturdy.encode) for _ in range(4)]
    assert bad.result() == 503
    assert statuses(asked) == {200: 12}
    assert sturdy.encode() == 200


def test_worker_whose_device_fails_ends(sturdy: Served) -> None:
    sturdy.wait_idle()
    before = sturdy.of("worker")
    assert sturdy.encode(picture(FATAL)) == 503
    assert sturdy.encode() == 200
    assert sturdy.of("worker") != before


def test_worker_that_is_told_to_go_is_replaced(sturdy: Served, pool: ThreadPoolExecutor) -> None:
    sturdy.wait_idle()
    asked = many(pool, sturdy, 20)
    [worker] = sturdy.of("worker")
    os.kill(worker, signal.SIGTERM)
    assert statuses(asked) == {200: 20}
    until(lambda: sturdy.of("worker") not in ([worker], []), "another worker is there")


def test_hung_worker_is_replaced() -> None:
    engine = {"hang": HANG}
    with served(engine, api_processes=1, hang_timeout=1.0, timeout=50.0) as there:
        assert there.encode(picture(HANG)) == 503
        assert there.encode() == 200
        status, lines = there.end()
    assert status == 0
    assert lines.count("vqtok: worker 0 of stub hangs; it is ended") == 2
    assert lines.count("vqtok: worker 0 of stub ended (SIGKILL); another one starts") == 2


def test_worker_that_cannot_start_ends_the_server() -> None:
    with served({"fails": "no weights"}, wait=False) as there:
        status, lines = there.ended()
    text = "vqtok: worker 0 of stub cannot start: no weights"
    assert status == 1
    assert lines == [
        f"{text}; trying again",
        f"{text}; trying again",
        f"{text} (3 times running); the server ends",
    ]


# --- signals ----------------------------------------------------------------------------------


def test_start_and_sigterm(pool: ThreadPoolExecutor) -> None:
    before = shared_memory()
    names = ["small", "large"]
    with served({"per_batch": 0.1}, max_batch=8, drain_delay=1.0, names=names) as there:
        assert [len(there.of(kind)) for kind in ("api", "worker")] == [2, 2]
        assert there.encode(model="small") == there.encode(model="large") == 200
        assert shared_memory() <= before
        asked = many(pool, there, 48)
        there.process.send_signal(signal.SIGTERM)
        until(lambda: not there.is_ready(), "it is not ready")
        assert statuses(asked) == {200: 48}
        status, lines = there.ended()
        out = there.lines("out")
    assert (status, out) == (0, [])
    assert sorted(lines[:2]) == ["vqtok: warming up large on cpu", "vqtok: warming up small on cpu"]
    assert lines[2:] == [
        f"vqtok: serving small, large at http://127.0.0.1:{there.port}/ (cpu; 2 API processes; "
        "the page is there, too)",
        "vqtok: leaving in 1 s; until then work is taken",
        "vqtok: stopped",
    ]
    assert shared_memory() <= before


def test_work_is_taken_until_the_delay_is_over(pool: ThreadPoolExecutor) -> None:
    with served(drain_delay=600.0) as there:
        os.killpg(there.pid, signal.SIGTERM)
        until(lambda: not there.is_ready(), "it is not ready")
        there.process.send_signal(signal.SIGTERM)  # as some do after the group's
        time.sleep(1.5)  # a worker that took the signal for itself would have gone by now
        assert statuses([pool.submit(there.encode) for _ in range(8)]) == {200: 8}
        status, lines = there.end(signal.SIGINT)
    assert status == 0
    assert lines[2:] == ["vqtok: leaving in 600 s; until then work is taken", "vqtok: stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_group_is_signalled(number: signal.Signals, pool: ThreadPoolExecutor) -> None:
    with served({"per_batch": 0.1}, max_batch=8) as there:
        asked = many(pool, there, 48)
        os.killpg(there.pid, number)
        assert statuses(asked) == {200: 48}
        status, lines = there.ended()
    assert status == 0
    how = "leaving in 0 s; until then work is taken"
    if number == signal.SIGINT:
        how = "finishing what is under way; Ctrl-C again ends that, too"
    assert lines == [*lines[:2], f"vqtok: {how}", "vqtok: stopped"]


def test_second_interrupt_ends_at_once(pool: ThreadPoolExecutor) -> None:
    with served({"hang": HANG}) as there:
        hanging = pool.submit(there.encode, picture(HANG))
        until(there.held, "it hangs")
        there.process.send_signal(signal.SIGINT)
        until(lambda: not there.is_ready(), "it is not ready")
        status, _ = there.end(signal.SIGINT)
    assert (status, hanging.result()) == (130, 0)


def test_sigterm_before_there_is_anything() -> None:
    with served({"slow": True}, wait=False) as there:
        until(lambda: there.lines("err"), "it is at work")
        assert there.end() == (0, ["looking", "vqtok: stopped"])


def test_worker_that_does_not_get_ready_is_given_up() -> None:
    with served({"warm_seconds": 600.0}, wait=False, start_timeout=0.5) as there:
        status, lines = there.ended()
    late = "vqtok: worker 0 of stub is not ready in time; it is ended"
    text = "vqtok: worker 0 of stub cannot start: SIGKILL"
    again = [late, f"{text}; trying again"] * 2
    assert status == 1
    assert [line for line in lines if "warming up" not in line] == [
        *again,
        late,
        f"{text} (3 times running); the server ends",
    ]


def test_sigterm_while_workers_warm_up() -> None:
    with served({"warm_seconds": 600.0}, wait=False) as there:
        until(lambda: there.ask("/startup")[0] == 503, "it listens")
        until(lambda: there.of("worker"), "a worker is there")
        assert not there.is_ready()
        status, lines = there.end()
    assert status == 0
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("slow", [False, True])
def test_as_pid_1(slow: bool, pool: ThreadPoolExecutor) -> None:
    shell = ("unshare", "--pid", "--fork", "--mount-proc")
    if (
        not shutil.which("unshare")
        or subprocess.run([*shell, "true"], capture_output=True).returncode
    ):
        pytest.skip("cannot make a name space of processes here")
    with served(
        {"per_batch": 0.1, "slow": slow}, wait=not slow, before=shell, max_batch=8
    ) as there:
        if slow:
            until(lambda: there.lines("err"), "it is at work")
        asked = [] if slow else many(pool, there, 48)
        first = Path(f"/proc/{there.pid}/task/{there.pid}/children").read_text().split()
        os.kill(int(first[0]), signal.SIGTERM)
        assert statuses(asked) == ({} if slow else {200: 48})
        assert there.ended()[0] == 0


# --- what cannot be mended --------------------------------------------------------------------


def test_dead_api_process_ends_the_server() -> None:
    with served() as there:
        os.kill(there.of("api")[0], signal.SIGKILL)
        status, lines = there.ended()
        assert there.encode() == 0
    assert status == 1
    assert lines[-1] == "vqtok: an API process ended (SIGKILL); the server ends"


def test_nothing_outlives_the_main_process(pool: ThreadPoolExecutor) -> None:
    with served({"hang": HANG}) as there:
        pool.submit(there.encode, picture(HANG))
        until(there.held, "it hangs")
        assert there.end(signal.SIGKILL)[0] == -signal.SIGKILL
        assert there.encode() == 0


def test_stopped_api_process_keeps_no_other() -> None:
    with served() as there:
        first, second = sorted(there.of("api"))
        tracker = there.of("tracker")  # it waits for all that hold its pipe
        os.kill(second, signal.SIGSTOP)
        try:
            there.process.kill()
            there.process.wait()
            others = there.seen - {second, *tracker}
            until(lambda: not any(map(runs, others)), "the others are gone")
        finally:
            os.kill(second, signal.SIGCONT)
        assert first in others
        until(lambda: not any(map(runs, there.seen)), "all are gone")


def test_api_process_that_never_answers_ends_the_server() -> None:
    with served({"deaf": True}, wait=False, api_processes=1) as there:
        status, lines = there.ended()
    assert status == 1
    said = "vqtok: an API process does not answer 1 s after its start; the server ends"
    assert lines[-1] == said


def test_helpers_that_are_killed_stop_nothing() -> None:
    """No manager that requests go through is among them."""
    with served(api_processes=1) as there:
        assert [len(there.of(kind)) for kind in ("api", "worker", "tracker")] == [1, 1, 1]
        os.kill(there.of("tracker")[0], signal.SIGKILL)
        assert there.encode() == 200
        assert replaces_its_worker(there)
        assert there.end()[0] == 0


@pytest.mark.slow  # 6 s
def test_api_process_that_hangs_ends_the_server() -> None:
    with served(hang_timeout=0.5) as there:
        os.kill(there.of("api")[0], signal.SIGSTOP)
        status, lines = there.ended()
    assert status == 1
    assert lines[-1] == "vqtok: an API process hangs; the server ends"


# --- streams ----------------------------------------------------------------------------------


def full_pipe(stack: ExitStack) -> int:
    """The end to write to, of one that takes nothing more."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    os.set_blocking(writer, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * size)
    os.set_blocking(writer, True)
    return writer


def replaces_its_worker(there: Served) -> bool:
    [worker] = there.of("worker")
    os.kill(worker, signal.SIGKILL)
    until(lambda: there.of("worker") not in ([worker], []), "another worker is there")
    until(there.is_ready, "it is ready")
    return there.encode() == 200


def test_full_pipes_stop_nothing() -> None:
    with (
        ExitStack() as stack,
        served(api_processes=1, log="json", out=full_pipe(stack), err=full_pipe(stack)) as there,
    ):
        assert [there.encode() for _ in range(20)] == [200] * 20
        assert replaces_its_worker(there)
        assert there.end()[0] == 0


def test_streams_that_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    with served(api_processes=1, log="json", out=writer, err=writer) as there:
        os.close(reader)
        os.close(writer)
        assert replaces_its_worker(there)
        assert there.end()[0] == 0


def test_full_disk_is_told_once() -> None:
    with (
        open("/dev/full", "wb") as full,
        served(api_processes=1, log="json", out=full.fileno()) as there,
    ):
        for _ in range(3):
            assert there.encode() == 200
            time.sleep(0.1)
        status, lines = there.end()
    assert status == 0
    text = "vqtok: lines of requests cannot be written: No space left on device"
    assert lines.count(text) == 1
    assert not any("Traceback" in line for line in lines)


def test_no_streams_at_all() -> None:
    shell = ("bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash")
    with served(api_processes=1, log="json", before=shell) as there:
        assert there.encode() == 200
        assert replaces_its_worker(there)
        assert there.end() == (0, [])


# --- before anything is started ---------------------------------------------------------------


@pytest.fixture
def stub() -> dict[str, tuple[object, Callable[[str], object]]]:
    return {"stub": (stub_facts(), StubEngine())}


def test_port_of_another(stub: dict[str, tuple[object, Callable[[str], object]]]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            run(ServeSettings(port=port), stub)  # type: ignore[arg-type]
    free = port + 1 if port < 65535 else 8000
    assert str(error.value) == (
        f"port {port} of 127.0.0.1 is another program's; name one that is free, such as "
        f"--port {free}"
    )


def test_no_model() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError) as error:
        run(ServeSettings(port=free_port()))
    assert str(error.value) == "there is no tokenizer to serve; name one"
    assert signal.getsignal(signal.SIGTERM) is before

"""Servers as processes under more than they can take, and with a real tokenizer. Minutes."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from serve_processes import PATIENCE, PIXELS, Served, running, served, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

MB = 1_000_000


def resident(there: Served) -> int:
    """Bytes of memory that all its processes hold, what they share counted once each."""
    there.of("worker")
    total = 0
    for pid in {there.pid, *there.seen}:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(160) as some:
        yield some


def test_ten_times_what_it_can_hold(pool: ThreadPoolExecutor) -> None:
    """Every request is answered, by codes or by 429, and the memory stays as it is."""
    with served({"per_batch": 0.02}, api_processes=2, slots=8, max_batch=4) as there:
        assert there.encode() == 200
        sizes = []
        for _ in range(3):
            found = Counter(pool.map(lambda _: there.encode(), range(800)))
            assert set(found) <= {200, 429}
            assert found[200] and found[429], found
            until(lambda: not there.held(), "slots are free")
            sizes.append(resident(there))
        assert max(sizes[1:]) - sizes[0] < 10 * MB
        assert there.end()[0] == 0


@pytest.mark.parametrize("told", [True, False], ids=["length", "chunks"])
def test_body_of_100_mb(told: bool) -> None:
    """It is refused, and never held."""
    with served(api_processes=1) as there:
        assert there.encode() == 200
        before, seen = resident(there), []

        def pieces() -> Iterator[bytes]:
            for number in range(100):
                if number % 10 == 0:
                    seen.append(resident(there))
                yield bytes(MB)

        headers = {"content-type": "image/png"} | (
            {"content-length": str(100 * MB)} if told else {}
        )
        with closing(http.client.HTTPConnection("127.0.0.1", there.port, timeout=PATIENCE)) as line:
            line.request("POST", "/v1/encode", pieces(), headers, encode_chunked=not told)
            answer = line.getresponse()
            assert (answer.status, b'"too_large"' in answer.read()) == (413, True)
        # The largest that is let in is 64 MB.
        assert max(*seen, resident(there)) - before < (16 if told else 80) * MB
        assert there.encode() == 200
        assert there.end()[0] == 0


# --- with a tokenizer -------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Served]:
    options = "--device cpu --size 64 --max-batch 4 --slots 64 --timeout 110 --hang-timeout 50"
    words = [*options.split(), "--drain-delay", "0", "--port", "PORT"]
    with running("-m", "vqtok.serve", "photo-tiny", *words) as there:
        yield there


def codes_of(there: Served) -> tuple[int, bytes]:
    return there.ask("/v1/encode?format=raw", PIXELS.tobytes())


def test_real_worker_is_killed(real: Served, pool: ThreadPoolExecutor) -> None:
    expected = codes_of(real)
    assert expected[0] == 200
    asked = [pool.submit(codes_of, real) for _ in range(60)]
    until(real.held, "some are under way")
    [worker] = real.of("worker")
    os.kill(worker, signal.SIGKILL)
    assert {one.result() for one in asked} == {expected}
    assert real.of("worker") != [worker]
    assert real.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_real_server_is_told_to_end(
    number: signal.Signals, real: Served, pool: ThreadPoolExecutor
) -> None:
    expected = codes_of(real)
    asked = [pool.submit(codes_of, real) for _ in range(60)]
    until(lambda: real.answered() + real.held() >= 61, "all have come in")
    os.killpg(real.pid, number)
    assert {one.result() for one in asked} == {expected}
    status, lines = real.ended()
    assert (status, lines[-1]) == (0, "vqtok: stopped")


def test_real_worker_is_stopped(pool: ThreadPoolExecutor) -> None:
    """A worker that stands still is replaced, and who waited for it is answered by the next."""
    options = "--device cpu --size 64 --timeout 110 --hang-timeout 1 --drain-delay 0 --port PORT"
    with running("-m", "vqtok.serve", "photo-tiny", *options.split()) as there:
        expected = codes_of(there)
        [worker] = there.of("worker")
        os.kill(worker, signal.SIGSTOP)
        asked = [pool.submit(codes_of, there) for _ in range(8)]
        assert {one.result() for one in asked} == {expected}
        status, lines = there.end()
    assert status == 0
    assert "vqtok: worker 0 of photo-tiny hangs; it is ended" in lines

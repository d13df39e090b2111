"""Servers of stubs as processes under more than they can take; real ones: test_matrix_life.py."""

from __future__ import annotations

import http.client
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from serve_processes import PATIENCE, served, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

MB = 1_000_000


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
            sizes.append(there.resident())
        assert max(sizes[1:]) - sizes[0] < 10 * MB
        assert there.end()[0] == 0


@pytest.mark.parametrize("told", [True, False], ids=["length", "chunks"])
def test_body_of_100_mb(told: bool) -> None:
    """It is refused, and never held."""
    with served(api_processes=1) as there:
        assert there.encode() == 200
        before, seen = there.resident(), []

        def pieces() -> Iterator[bytes]:
            for number in range(100):
                if number % 10 == 0:
                    seen.append(there.resident())
                yield bytes(MB)

        headers = {"content-type": "image/png"} | (
            {"content-length": str(100 * MB)} if told else {}
        )
        with closing(http.client.HTTPConnection("127.0.0.1", there.port, timeout=PATIENCE)) as line:
            line.request("POST", "/v1/encode", pieces(), headers, encode_chunked=not told)
            answer = line.getresponse()
            assert (answer.status, b'"too_large"' in answer.read()) == (413, True)
        # The largest that is let in is 64 MB.
        assert max(*seen, there.resident()) - before < (16 if told else 80) * MB
        assert there.encode() == 200
        assert there.end()[0] == 0

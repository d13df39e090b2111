"""What the threads of a process look at together."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vqtok.sources.shared import Shared


def test_each_is_made_once() -> None:
    shared, made = Shared(100), list[int]()

    def make(name: int) -> int:
        made.append(name)
        threading.Event().wait(0.002)
        return -name

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: shared.get(n // 50, lambda: make(n // 50)), range(400)))
    assert found == [-(n // 50) for n in range(400)]
    assert sorted(made) == list(range(8))


def test_others_do_not_wait() -> None:
    shared, going = Shared(100), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(shared.get, "slow", lambda: going.wait(60))
        assert shared.get("quick", lambda: 5) == 5
        going.set()
        assert slow.result()


def test_the_least_lately_used_falls_out() -> None:
    shared, made = Shared(10), list[str]()
    for name in "abacadbz":
        shared.get(name, lambda name=name: made.append(name), 4)  # type: ignore[misc]
    assert "".join(made) == "abcdbz"
    shared.get("huge", lambda: made.append("huge"), 400)
    assert list(shared._held) == ["huge"]
    assert shared._total == 400


def test_what_fails_is_tried_again() -> None:
    shared = Shared(10)
    with pytest.raises(ZeroDivisionError):
        shared.get("a", lambda: 1 / 0)
    assert shared.get("a", lambda: 3) == 3


def test_copies_begin_anew() -> None:
    shared = Shared(10)
    shared.get("a", lambda: 1)
    copy = pickle.loads(pickle.dumps(shared))
    assert copy.get("a", lambda: 2) == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_takes_no_locks_along() -> None:
    shared, going = Shared(10), threading.Event()
    shared.get("a", lambda: 1)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(shared.get, "b", lambda: going.wait(60))
        while "b" not in shared._held:
            going.wait(0.001)
        child = os.fork()
        if not child:
            os._exit(shared.get("a", lambda: 3) + shared.get("b", lambda: 4))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        going.set()
        assert slow.result()


def test_a_size_may_be_told_of_what_was_made() -> None:
    shared, made = Shared(10), list[str]()

    def get(name: str) -> str:
        value: str = shared.get(name, lambda: made.append(name) or name, len)  # type: ignore
        return value

    for name in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb", "x" * 20, "x" * 20):
        assert get(name) == name
    assert made == ["aaaa", "bbbb", "cccc", "bbbb", "x" * 20]

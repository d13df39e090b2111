"""Memory without a name."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import serve_bench

from vqtok.serve import shared
from vqtok.serve.shared import PAGE, Shared


def test_it_is_zero_and_takes_no_memory_at_first() -> None:
    memory = Shared(100 * PAGE)
    assert not memory.array("u1", 100 * PAGE).any()
    assert memory.size == 100 * PAGE


def test_views_are_of_one_memory() -> None:
    memory = Shared(64)
    memory.array("<u2", (2, 2), 8)[...] = [[1, 2], [3, 4]]
    assert memory.array("<u2", 4, 8).tolist() == [1, 2, 3, 4]
    memory.floats(32, 2)[1] = 0.5
    assert memory.array("<f8", 1, 40).tolist() == [0.5]


def test_pages_are_given_back() -> None:
    memory = Shared(8 * PAGE)
    memory.array("u1", 8 * PAGE)[...] = 7
    full = os.fstat(memory._descriptor).st_blocks
    memory.punch(PAGE, 4 * PAGE)
    assert os.fstat(memory._descriptor).st_blocks == full // 2
    pages = memory.array("u1", (8, PAGE))
    assert pages.any(1).tolist() == [True, False, False, False, False, True, True, True]


def test_without_memfd_it_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    memory = Shared(PAGE)
    memory.array("u1", 4)[...] = 9
    assert memory.array("u1", 4).tolist() == [9] * 4
    assert os.fstat(memory._descriptor).st_nlink == 0


def test_nothing_is_given_back_where_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(shared.mmap, "MADV_REMOVE", raising=False)
    memory = Shared(PAGE)
    memory.array("u1", PAGE)[...] = 7
    memory.punch(0, PAGE)
    assert memory.array("u1", PAGE).all()


def test_a_spawned_child_has_the_same_memory() -> None:
    memory = Shared(PAGE)
    child = multiprocessing.get_context("spawn").Process(target=serve_bench.fill, args=(memory,))
    child.start()
    child.join()
    assert memory.array("u1", 5).tolist() == [5] * 5


ENDING = """
import os
from vqtok.serve.line import Pipe
from vqtok.serve.shared import Shared
held = Shared(64), Pipe(1)
for end in (held[0]._descriptor, held[1].reader, held[1].writer):
    os.close(end)
import builtins
builtins.held = held  # modules go before it
"""


def test_it_says_nothing_at_the_end_of_a_process() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_is_closed_can_still_be_read() -> None:
    memory = Shared(PAGE)
    view = memory.array("u1", 3)
    memory.close()
    memory.close()
    view[...] = 1
    assert np.array_equal(view, [1, 1, 1])

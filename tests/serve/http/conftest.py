"""Servers of a stub, all of whose slots must be free again after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch  # noqa: F401  # else the first request that resizes loads it, for seconds
from serve_server import Served, serving, settle
from serve_stubs import StubEngine

from vqtok.serve.board import Phase

Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def plain() -> Iterator[Served]:
    """A server as settings have it by default, for all tests that need no other."""
    with serving(StubEngine()) as served:
        yield served


@pytest.fixture
def serve(plain: Served) -> Iterator[Serve]:
    """serve(engine, **settings) starts a server; without either it is the plain one."""
    started: list[Served] = []
    with ExitStack() as stack:

        def start(engine: Any = None, **settings: Any) -> Served:
            served = plain
            if engine is not None or settings:
                served = stack.enter_context(serving(engine or StubEngine(), **settings))
            started.append(served)
            return served

        yield start
        for served in started:
            served.board.phase = Phase.READY
            settle(served)
            assert served.free()

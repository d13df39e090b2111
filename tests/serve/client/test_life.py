"""Threads, processes and connections of clients, and what importing one brings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serve_stubs import picture

from vqtok.errors import ServiceError
from vqtok.serve import AsyncClient, Client

PICTURES = [picture(seed, (32, 32)) for seed in range(8)]


def under_way(client: Client) -> list[Any]:
    """What the client's loop does now, besides waiting for its own end."""
    loop = client._backgrounds[os.getpid()].loop()
    return [task for task in asyncio.all_tasks(loop) if "_until" not in repr(task)]


def own_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "vqtok-client"]


@contextmanager
def hanging(server: Any, but: Any = lambda asked: None) -> Iterator[None]:
    """The next eight requests get no answer until the context is left, but for what `but` says."""
    over = threading.Event()
    forgotten: list[Any] = []

    def wait(asked: Any) -> Any:
        told = but(asked)
        if told is None and not over.wait(10):
            forgotten.append(asked.path)
        return told

    server.script.extend([wait] * 8)
    try:
        yield
    finally:
        over.set()
    assert not forgotten, "somebody waited for these answers"


def wait_for(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


@contextmanager
def interrupted(condition: Any) -> Iterator[None]:
    """Ctrl-C, once the condition holds."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_for(condition)
        signal.pthread_kill(main, signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        other.join()


def test_an_interrupt_leaves_no_tasks(server: Any) -> None:
    with Client(server.url, per_request=1) as client:
        client.encode(PICTURES)
        with hanging(server):
            with interrupted(lambda: server.now == 4):
                client.encode(PICTURES)
            assert under_way(client) == []
        server.script.clear()
        assert len(client.encode(PICTURES)) == 8


def test_an_interrupt_during_pauses(server: Any, told: Any) -> None:
    with Client(server.url, per_request=1) as client:
        client.model()
        server.script.extend([told(503, retry_after="20")] * 8)
        with interrupted(lambda: len(server.posts) == 4):
            client.encode(PICTURES)
        assert under_way(client) == []


def test_results_that_nobody_takes(server: Any) -> None:
    with Client(server.url, per_request=1) as client:
        found = client.encode_many(iter(PICTURES))
        next(found)
        with hanging(server):
            next(found)
            found.close()
            assert under_way(client) == []


def test_an_interrupt_in_the_callers_own_iterator(server: Any) -> None:
    def pictures() -> Iterator[Any]:
        yield PICTURES[0]
        raise KeyboardInterrupt

    with Client(server.url, per_request=1) as client:
        client.model()
        with hanging(server):
            with pytest.raises(KeyboardInterrupt):
                client.encode(pictures())
            assert under_way(client) == []


def test_an_iterator_that_is_forgotten(server: Any) -> None:
    with Client(server.url, per_request=1) as client:
        found = client.encode_many(iter(PICTURES))
        next(found)
        with hanging(server):
            next(found)
            client._backgrounds[os.getpid()].loop().call_soon_threadsafe(found.close)
            wait_for(lambda: not under_way(client))


def test_a_client_that_is_forgotten(server: Any) -> None:
    client = Client(server.url)
    client.encode(PICTURES[0])
    assert len(own_threads()) == 1
    del client
    gc.collect()
    assert own_threads() == []


def test_a_client_that_is_closed_while_others_wait(server: Any) -> None:
    said = f"this client of {server.url} is closed; make a new one"
    with Client(server.url, per_request=1) as client, hanging(server):
        found = client.encode_many(iter(PICTURES))
        told: list[str] = []

        def wait() -> None:
            with pytest.raises(ServiceError) as error:
                next(found)
            told.append(str(error.value))

        thread = threading.Thread(target=wait)
        thread.start()
        wait_for(lambda: server.now == 4)
        client.close()
        thread.join()
        assert told == [said]
        assert own_threads() == []


def test_an_iterator_of_a_client_that_is_closed(server: Any) -> None:
    with Client(server.url, per_request=1) as client:
        found = client.encode_many(iter(PICTURES))
        next(found)
    with pytest.raises(ServiceError) as error:
        next(found)
    assert str(error.value) == f"this client of {server.url} is closed; make a new one"
    assert own_threads() == []


def test_results_that_no_loop_takes(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    kept = []

    async def main() -> None:
        async with AsyncClient(server.url, per_request=1) as client:
            kept.append(client.encode_many(iter(PICTURES)))
            await anext(kept[0])

    asyncio.run(main())
    assert caplog.records == []


def test_a_process_may_end_without_closing(server: Any) -> None:
    work = f"""
import numpy
from vqtok.serve import Client
client = Client({server.url!r}, per_request=1)
found = client.encode_many(numpy.zeros((32, 32, 3), "uint8") for _ in range(9))
print(next(found).ids.shape)
"""
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("(1, 2, 2)\n", "", 0)


def test_a_failure_ends_what_else_is_under_way(server: Any, refuse: Any) -> None:
    with Client(server.url, per_request=1) as client:
        client.model()
        refusing = refuse(401, "unauthorized", PICTURES[0].tobytes())
        with hanging(server, refusing), pytest.raises(ServiceError, match="401 unauthorized"):
            client.encode(PICTURES)
        assert under_way(client) == []


def test_cancelling_leaves_no_tasks(server: Any) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, per_request=1) as client:
            await client.model()
            with hanging(server):
                doing = asyncio.create_task(client.encode(PICTURES))
                while server.now < 4:
                    await asyncio.sleep(0.01)
                assert len(asyncio.all_tasks()) == 6
                doing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await doing
                assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_many_threads_share_a_client(server: Any) -> None:
    with Client(server.url) as client:
        alone = [client.encode(one) for one in PICTURES]
        found: list[Any] = [None] * 24

        def work(row: int) -> None:
            found[row] = client.encode(PICTURES[row % 8])

        threads = [threading.Thread(target=work, args=(row,)) for row in range(24)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert found == alone * 3


def test_connections_are_used_again(server: Any) -> None:
    with Client(server.url, per_request=1) as client:
        for _ in range(3):
            client.encode(PICTURES[0])
        assert len(server.sockets) == 1
        client.encode(PICTURES)
        client.encode(PICTURES)
        assert len(server.sockets) <= 1 + 4


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_takes_no_connection_of_its_parent(server: Any) -> None:
    with Client(server.url) as client:
        codes = client.encode(PICTURES[0])
        child = os.fork()
        if not child:
            same = client.encode(PICTURES[0]) == codes
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.encode(PICTURES[0]) == codes
        assert len(server.sockets) == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_takes_no_iterator_of_its_parent(server: Any) -> None:
    with Client(server.url, per_request=1) as client:
        found = client.encode_many(iter(PICTURES))
        next(found)
        child = os.fork()
        if not child:
            signal.alarm(10)
            with contextlib.suppress(ServiceError):
                next(found)
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(list(found)) == 7


BLOCKED = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_a_client_needs_nothing_of_what_a_server_needs(server: Any) -> None:
    names = ("torch", "litserve", "diffusers", "transformers", "uvicorn", "fastapi", "starlette")
    names += ("prometheus_client", "av", "accelerate", "einops")
    work = f"""
import numpy
from vqtok.errors import ServiceError
from vqtok.serve import AsyncClient, Client
with Client({server.url!r}) as client:
    codes = client.encode([numpy.zeros((40, 40, 3), "uint8")] * 2)
    pictures = client.decode(codes)
    client.codec().decode(codes[0])
print(pictures[0].size)
"""
    assert run(BLOCKED.format(names=names) + work) == "(32, 32)"


@pytest.mark.parametrize("name", ["httpx", "orjson"])
def test_what_it_needs_is_named(name: str) -> None:
    work = """
import vqtok.serve
from vqtok.errors import MissingExtraError
try:
    from vqtok.serve import Client
except MissingExtraError as error:
    print(error)
"""
    assert run(BLOCKED.format(names=(name,)) + work) == (
        f"vqtok.serve.Client works with {name}, which is not installed: pip install 'vqtok[serve]'"
    )

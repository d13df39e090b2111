"""Work in threads: what comes of it, who is too late, and who is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import httpx
import pytest
from serve_bodies import RAW, png
from serve_stubs import picture

from vqtok.serve.http import pictures, served
from vqtok.serve.http.threads import Threads, in_thread
from vqtok.serve.outcomes import Late


@pytest.fixture
def threads():
    found = Threads(2, "test")
    yield found
    found.close()


def play(scene):
    asyncio.run(asyncio.wait_for(scene(), 5))


def held(go_on, begun=None):
    if begun is not None:
        begun.set()
    assert go_on.wait(10)
    return threading.current_thread().name


async def until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.001)


def test_results_and_errors_come_back(threads):
    async def scene():
        assert await in_thread(threads, pow, 2, 5) == 32
        with pytest.raises(ValueError, match=r"^no such thing$"):
            await in_thread(threads, raised, ValueError("no such thing"))
        found = await asyncio.gather(*(in_thread(threads, pow, n, 2) for n in range(100)))
        assert found == [n * n for n in range(100)]

    play(scene)


def raised(error):
    raise error


def test_no_more_threads_than_asked_for(threads):
    async def scene():
        go_on = threading.Event()
        tasks = [asyncio.ensure_future(in_thread(threads, held, go_on)) for _ in range(6)]
        await asyncio.sleep(0.02)
        go_on.set()
        assert set(await asyncio.gather(*tasks)) <= {"test_0", "test_1"}

    play(scene)


def test_the_loop_is_woken_once_for_all_that_has_ended():
    async def scene():
        threads, loop, calls = Threads(1, "test"), asyncio.get_running_loop(), []
        real = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args: calls.append(real(*args))
        tasks = [asyncio.ensure_future(in_thread(threads, int)) for _ in range(8)]
        await asyncio.sleep(0)
        time.sleep(0.05)  # all end while the loop is busy
        assert await asyncio.gather(*tasks) == [0] * 8
        assert len(calls) == 1
        threads.close()

    play(scene)


def test_what_nobody_begins_in_time_is_late(threads):
    async def scene():
        go_on, ran = threading.Event(), []
        busy = [asyncio.ensure_future(in_thread(threads, held, go_on)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Late) as error:
            await in_thread(threads, ran.append, 1, until=time.monotonic() + 0.02)
        assert str(error.value) == "no thread was free in time to decode it"
        go_on.set()
        await asyncio.gather(*busy)
        assert await in_thread(threads, len, ran) == 0
        # One that was begun in time may take longer.
        soon = time.monotonic() + 0.02
        assert await in_thread(threads, time.sleep, 0.05, until=soon) is None

    play(scene)


def test_who_is_cancelled_waits_for_the_thread_that_is_at_it(threads):
    async def scene():
        begun, go_on = threading.Event(), threading.Event()
        task = asyncio.ensure_future(in_thread(threads, held, go_on, begun))
        await until(begun.is_set)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(scene)


def test_what_is_cancelled_before_it_begins_never_does(threads):
    async def scene():
        go_on, ran = threading.Event(), []
        busy = [asyncio.ensure_future(in_thread(threads, held, go_on)) for _ in range(2)]
        task = asyncio.ensure_future(in_thread(threads, ran.append, 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await asyncio.gather(*busy)
        assert await in_thread(threads, len, ran) == 0

    play(scene)


def test_nothing_of_a_job_is_kept(threads):
    class Upload:
        pass

    async def scene():
        upload = Upload()
        gone = weakref.ref(upload)
        await in_thread(threads, id, upload)
        del upload
        await until(lambda: gc.collect() >= 0 and gone() is None)

    play(scene)


def test_closing_cancels_what_has_not_begun():
    async def scene():
        threads, go_on = Threads(1, "test"), threading.Event()
        first = asyncio.ensure_future(in_thread(threads, held, go_on))
        second = asyncio.ensure_future(in_thread(threads, int))
        await asyncio.sleep(0.02)
        threads.close()
        with pytest.raises(asyncio.CancelledError):
            await second
        with pytest.raises(RuntimeError, match=r"^these threads have ended$"):
            await in_thread(threads, int)
        go_on.set()
        assert await first == "test_0"
        await until(lambda: "test_0" not in {one.name for one in threading.enumerate()})

    play(scene)


def test_small_files_have_a_thread_of_their_own(serve, monkeypatch):
    names, lay = [], pictures.lay

    def noted(*args):
        names.append(threading.current_thread().name)
        return lay(*args)

    monkeypatch.setattr(pictures, "lay", noted)
    url = serve().url
    body = png(picture())
    for small, name in ((len(body), "vqtok-brief_0"), (len(body) - 1, "vqtok-decode_")):
        monkeypatch.setattr(served, "SMALL", small)
        headers = {"content-type": "image/png", "accept": RAW}
        assert httpx.post(f"{url}/v1/encode", content=body, headers=headers).status_code == 200
        assert names.pop().startswith(name)

"""Two replicas behind a balancer: whatever happens to one, every request is answered 200.

What a balancer must do is ask another replica where one refuses or is gone, which is right since
every request is pure. `docs/deploy/nginx.conf` has nginx do that; without nginx a loop does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("litserve")

from serve_stubs import codes_of, corners, picture  # noqa: E402

Pixels = npt.NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
RATE = 40  # requests a second
PATIENCE = 90.0  # for a replica to start or end
AGAIN = (429, 502, 503, 504)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="finds processes through /proc"
)

REPLICA = """
import sys

from serve_stubs import StubEngine, stub_facts
from vqtok.serve.main import run
from vqtok.serve.layers import flags, resolve

if __name__ == "__main__":
    settings = resolve([flags({
        "models": {"stub": "stub"}, "port": int(sys.argv[1]), "api_processes": 1, "max_batch": 16,
        "device": "cpu", "log": "off",
    })])
    facts = stub_facts("stub")
    sys.exit(run(settings, loads={"stub": (facts, StubEngine(facts, per_batch=0.02))}))
"""


# --- replicas -------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The real one, that gives the same codes whatever came along.
REAL = "-m vqtok serve photo-tiny --device cpu --size 64 --deterministic --api-processes 1"


@dataclass
class Replica:
    """A server that can be ended and started again, at the same port: of a stub, or a real one."""

    folder: Path
    is_real: bool = False
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = self.folder / "replica.py"
        script.write_text(REPLICA)
        paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
        words = [*REAL.split(), "--port"] if self.is_real else [str(script)]
        self.process = subprocess.Popen(
            [sys.executable, *words, str(self.port)],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def wait_until_ready(self) -> None:
        assert self.process is not None
        end = time.monotonic() + PATIENCE
        while not self.is_ready():
            assert self.process.poll() is None, "the replica ended"
            assert time.monotonic() < end, "the replica does not start"
            time.sleep(0.1)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """All of its processes at once."""
        if self.process is not None:
            for pid in reversed(family(self.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(PATIENCE)

    def worker(self) -> int:
        """The process of its only worker."""
        (found,) = (pid for pid in family(self.pid) if "spawn_main" in command(pid))
        return found


def family(first: int) -> list[int]:
    """A process and those that came of it."""
    found = [first]
    for pid in found:
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


@pytest.fixture
def replicas(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Replica, Replica]]:
    is_real = bool(getattr(request, "param", False))
    pair = (Replica(tmp_path, is_real), Replica(tmp_path, is_real))
    try:
        for replica in pair:
            replica.start()
        for replica in pair:
            replica.wait_until_ready()
        yield pair
    finally:
        for replica in pair:
            replica.kill()


# --- balancers ------------------------------------------------------------------------------------

Ask = Callable[[], Awaitable["httpx.Response"]]
RAW, SMALL = picture(), picture(0, (64, 64))
WANTED = codes_of(corners(RAW, clip=False)).tobytes()


def posted(pixels: Pixels) -> dict[str, Any]:
    """What httpx is given to encode it."""
    media = "application/octet-stream"
    shape = ",".join(map(str, pixels.shape))
    headers = {"content-type": media, "accept": media, "x-vqtok-shape": shape}
    return {"content": pixels.tobytes(), "headers": headers}


@asynccontextmanager
async def loop_of(replicas: Sequence[Replica], pixels: Pixels = RAW) -> AsyncIterator[Ask]:
    """Asks one after the other, and again where it is refused or cut off."""
    urls = [f"http://127.0.0.1:{replica.port}/v1/encode" for replica in replicas]
    turn = 0

    async def ask() -> httpx.Response:
        nonlocal turn
        end = time.monotonic() + 60
        while True:
            turn += 1
            try:
                answer = await client.post(urls[turn % len(urls)], **sent)
            except httpx.TransportError:
                answer = httpx.Response(502)
            if answer.status_code not in AGAIN or time.monotonic() > end:
                return answer
            await asyncio.sleep(0.02)

    sent = posted(pixels)
    async with httpx.AsyncClient(timeout=45, trust_env=False) as client:
        yield ask


@asynccontextmanager
async def nginx_of(port: int, pixels: Pixels = RAW) -> AsyncIterator[Ask]:
    """Asks nginx, once."""

    async def ask() -> httpx.Response:
        return await client.post(f"http://127.0.0.1:{port}/v1/encode", **sent)

    sent = posted(pixels)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        yield ask


class Seen(NamedTuple):
    """One request."""

    begun: float
    status: int
    is_right: bool
    seconds: float


async def under_load(
    ask: Ask, rate: float, story: Callable[[], None], wanted: bytes = WANTED
) -> list[Seen]:
    """So many requests a second while the story is told, and until all are answered."""
    seen: list[Seen] = []
    began = time.monotonic()

    async def one() -> None:
        start = time.monotonic()
        answer = await ask()
        right = answer.content == wanted
        seen.append(Seen(start - began, answer.status_code, right, time.monotonic() - start))

    told = asyncio.create_task(asyncio.to_thread(story))
    tasks = []
    while not told.done():
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(max(0.0, began + len(tasks) / rate - time.monotonic()))
    await told
    await asyncio.gather(*tasks)
    return seen


def report(seen: Sequence[Seen]) -> str:
    """What to print where something went wrong, and with -s."""
    took = sorted(one.seconds for one in seen)
    wrong = [(round(one.begun, 1), one.status) for one in seen if one.status != 200]
    counts = dict(Counter(one.status for one in seen))
    half, most = took[len(took) // 2], took[len(took) * 99 // 100]
    return (
        f"{len(seen)} requests, {counts}, {half:.3f} s half of them, {most:.3f} s 99 %, "
        f"{took[-1]:.3f} s the slowest; not 200: {wrong[:20]}"
    )


def assert_all_answered(seen: Sequence[Seen], least: int) -> None:
    print(report(seen))
    assert len(seen) >= least
    assert all(one.status == 200 and one.is_right for one in seen), report(seen)


def restart(replica: Replica) -> None:
    """As an orchestrator does it."""
    os.kill(replica.pid, signal.SIGTERM)
    assert replica.wait() == 0
    replica.start()
    replica.wait_until_ready()


# --- tests ----------------------------------------------------------------------------------------


def test_a_replica_that_leaves_and_a_worker_that_dies(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas

    def story() -> None:
        time.sleep(0.5)
        os.kill(first.pid, signal.SIGTERM)
        assert first.wait() == 0
        os.kill(second.worker(), signal.SIGKILL)
        time.sleep(0.5)

    async def main() -> list[Seen]:
        async with loop_of(replicas) as ask:
            return await under_load(ask, 20, story)

    assert_all_answered(asyncio.run(main()), 20)


def configuration(ports: Sequence[int], listen: int, folder: Path) -> str:
    """The example, at other ports and in a folder of its own."""
    example = (ROOT / "docs/deploy/nginx.conf").read_text(encoding="utf-8")
    for shown, port in zip((8001, 8002, 8000), (*ports, listen), strict=True):
        assert example.count(f"127.0.0.1:{shown}") == 1
        example = example.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return (
        f"daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{example}\n}}\n"
    )


@contextmanager
def nginx(replicas: Sequence[Replica], folder: Path) -> Iterator[int]:
    """Runs it; the port that it listens at."""
    assert NGINX is not None
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(configuration([one.port for one in replicas], port, folder))
    started = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(file)])
    try:
        yield port
    finally:
        started.terminate()
        started.wait(10)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_takes_the_example(tmp_path: Path) -> None:
    assert NGINX is not None
    file = tmp_path / "nginx.conf"
    file.write_text(configuration((18001, 18002), 18000, tmp_path))
    done = subprocess.run(
        [NGINX, "-t", "-p", str(tmp_path), "-c", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [False, True], ids=["stub", "real"], indirect=True)
@pytest.mark.parametrize("balancer", ["loop", "nginx"])
def test_rolling_restart_and_deaths_under_load(
    replicas: tuple[Replica, Replica], balancer: str, tmp_path: Path
) -> None:
    first, second = replicas
    pixels, wanted = RAW, WANTED
    if first.is_real:
        url = f"http://127.0.0.1:{first.port}/v1/encode"
        pixels, wanted = SMALL, httpx.post(url, **posted(SMALL)).content
        assert len(wanted) == 2 * 64

    def story() -> None:
        time.sleep(3)
        restart(first)
        restart(second)
        time.sleep(2)
        os.kill(second.worker(), signal.SIGKILL)
        time.sleep(8)
        second.kill()
        time.sleep(4)

    async def main(ask: Ask) -> list[Seen]:
        return await under_load(ask, RATE, story, wanted)

    async def by_loop() -> list[Seen]:
        async with loop_of(replicas, pixels) as ask:
            return await main(ask)

    async def by_nginx(port: int) -> list[Seen]:
        async with nginx_of(port, pixels) as ask:
            return await main(ask)

    least = 15 * RATE
    if balancer == "loop":
        assert_all_answered(asyncio.run(by_loop()), least)
        return
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with nginx(replicas, tmp_path) as port:
        assert_all_answered(asyncio.run(by_nginx(port)), least)

"""What the benchmarks of the server measure with, on servers of a few lines."""

from __future__ import annotations

import asyncio
import importlib
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

for name in ("fastapi", "litserve"):
    pytest.importorskip(name)
if not sys.platform.startswith("linux"):
    pytest.skip("the benchmarks look into /proc", allow_module_level=True)

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def path() -> Iterator[None]:
    """Scripts there import each other by their short names, as from the command line."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# A server with a child; every third answer is a 503.
SERVER = """
import asyncio, os, sys, time

child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)

count = 0

async def answer(reader, writer):
    global count
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\\r\\n")[0]
            await reader.readexactly(int(length or 0))
            get = head.startswith(b"get")
            count += not get
            status = b"200 OK" if get or count % 3 else b"503 Busy"
            writer.write(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    except asyncio.IncompleteReadError:
        writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""


def test_load_and_processes_of_a_server(tmp_path: Path) -> None:
    measure = script("serve_measure")
    program = tmp_path / "server.py"
    program.write_text(textwrap.dedent(SERVER))
    port = free_port()
    command = [sys.executable, str(program), str(port)]
    with measure.serving(command, port, "/ready") as first:
        kinds = measure.kinds(first, port)
        assert kinds.pop(first) == "main"
        assert [*kinds.values()] == ["other"]
        before = measure.usage([first, *kinds])
        request = measure.Request("/v1/encode", {"x-a": "b"}, b"body")
        seen = asyncio.run(measure.by_hand(port, request, 0.3, 2))
        after = measure.usage([first, *kinds])
        assert seen.requests > 10
        assert abs(seen.failed - seen.requests / 3) <= 1
        assert 0 < seen.half <= seen.most
        assert after[first].cpu > before[first].cpu
        assert after[first].resident > 1 << 20
    assert not measure.answers(port, "/ready")
    end = time.monotonic() + 10  # who reaps orphans may take its time
    while any(one.resident for one in measure.usage([first, *kinds]).values()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_server_that_does_not_start_is_an_error() -> None:
    measure = script("serve_measure")
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    with (
        pytest.raises(SystemExit, match=r"^it did not start: "),
        measure.serving(command, 1, "/ready"),
    ):
        raise AssertionError("it started")


FOUND = {
    ("vqtok", "raw"): (0.4, 0.05),
    ("litserve", "raw"): (3.0, 0.5),
    ("starlette", "raw"): (0.2, 0.0),
    ("vqtok", "jpeg"): (0.6, 0.05),
    ("litserve", "jpeg"): (1.0, 0.5),
    ("starlette", "jpeg"): (0.5, 0.0),
    ("vqtok", "raw16"): (4.0, 0.8),
}


def test_verdicts_are_of_ratios_within_a_round() -> None:
    http = script("serve_http")
    found = {
        key: [
            {**dict.fromkeys(http.KINDS, 0.0), "api": scale * api, "worker": scale * worker}
            for scale in (1, 2, 3)
        ]
        for key, (api, worker) in FOUND.items()
    }
    assert http.verdicts(found).splitlines() == [
        "- one picture, raw: 0.129 times stock LitServe; wanted at most 0.16",
        "- one picture, raw: 2.250 times bare Starlette; wanted at most 2.3",
        "- one picture, JPEG: 1.300 times bare Starlette; wanted at most 1.5",
        "- of it in the worker: 0.100 ms; wanted at most 0.06",
        "- a picture of 16 in a request: 0.667 times one alone; wanted at most 0.65",
    ]


def test_every_way_is_sent_the_same_pixels() -> None:
    http, peers = script("serve_http"), script("serve_peers")
    sent = http.requests()
    assert [*sent] == [*http.WORKLOADS]
    one, many = (peers.pixels_of(sent[name].body) for name in ("raw", "raw16"))
    assert (one.shape, many.shape) == ((1, 256, 256, 3), (16, 256, 256, 3))
    assert np.array_equal(one[0], many[0])
    assert np.array_equal(peers.pixels_of(sent["png"].body), one)
    jpeg = peers.pixels_of(sent["jpeg"].body).astype(int)
    assert np.abs(jpeg - one).mean() < 4


def test_the_guides_of_scripts_run() -> None:
    for name in ("serve_http", "serve_soak", "serve_gpu"):
        command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
        assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0

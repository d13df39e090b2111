"""Servers as processes, for tests that signal and kill them. Linux alone: it reads /proc."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SCRIPT = Path(__file__).parent / "serve_stub_main.py"
# However loaded a machine is; nothing here waits so long unless something is broken.
PATIENCE = 120.0
PIXELS = np.zeros((64, 64, 3), np.uint8)


def picture(first: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """Raw pixels 64x64, whose first is this."""
    pixels = PIXELS.copy()
    pixels[0, 0] = first
    return pixels.tobytes()


def until(true: Callable[[], Any], what: str) -> Any:
    """The first value that counts as true; a failure where there is none in good time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError(f"it took more than {PATIENCE:g} s until {what}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def children(pid: int) -> dict[int, str]:
    """The running processes under one, at any depth: pid -> command line."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        under = [child for child, parent in parents.items() if parent == todo[-1]]
        todo.pop()
        for child in under:
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        todo += under
    return found


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _sum(metrics: str, name: str) -> float:
    lines = metrics.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


class Served:
    """A server, and what a test asks it and does to it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self.process, self.port, self.folder = process, port, folder
        self.seen: set[int] = set()  # every process that it had

    def lines(self, stream: str) -> list[str]:
        """What it has written to "out" or "err" so far."""
        return (self.folder / stream).read_text().splitlines()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, kind: str) -> list[int]:
        """The pids of its "worker"s, "api" processes or "tracker"s."""
        found = children(self.pid)
        self.seen |= set(found)
        workers = [pid for pid, line in found.items() if "spawn_main" in line]
        trackers = [pid for pid, line in found.items() if "resource_tracker" in line]
        apis = [*{*found} - {*workers, *trackers}]
        return {"worker": workers, "tracker": trackers, "api": apis}[kind]

    def ask(
        self, path: str, body: bytes | None = None, kind: str = "application/octet-stream"
    ) -> tuple[int, bytes]:
        """Status and body of an answer; status 0 where nobody listens or the connection broke."""
        there = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"content-type": kind, "x-vqtok-shape": "64,64,3"}
        try:
            there.request("POST" if body else "GET", path, body, headers if body else {})
            answer = there.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            there.close()

    def encode(self, body: bytes = picture(), model: str = "") -> int:
        """The status of an encode."""
        return self.ask(f"/v1/models/{model}/encode" if model else "/v1/encode", body)[0]

    def is_ready(self) -> bool:
        return self.ask("/ready")[0] == 200

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        return _sum(self.ask("/metrics")[1].decode(), name)

    def held(self) -> float:
        """How many slots are not free."""
        found = self.ask("/metrics")[1].decode()
        return _sum(found, "vqtok_slots{") - _sum(found, "vqtok_slots_free{")

    def answered(self) -> float:
        """How many requests to encode have been answered."""
        found = self.ask("/metrics")[1].decode()
        return sum(
            float(line.split()[-1])
            for line in found.splitlines()
            if line.startswith("vqtok_requests_total{") and 'op="encode"' in line
        )

    def resident(self) -> int:
        """Bytes of memory that all its processes hold, what they share counted once each."""
        self.of("worker")
        total = 0
        for pid in {self.pid, *self.seen}:
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE")

    def wait_idle(self) -> None:
        """Until it is ready, and holds no slot."""
        until(self.is_ready, "it is ready")
        until(lambda: not self.held(), "slots are free")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, list[str]]:
        """Signals the main process, and waits: the status, and its lines for people."""
        self.of("worker")
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, list[str]]:
        """Waits for the end, and that nothing is left: the status, and its lines for people."""
        self.of("worker")
        self.process.wait(PATIENCE)
        until(lambda: not any(map(runs, self.seen)), "all of its processes are gone")
        return self.process.returncode, self.lines("err")


@contextmanager
def running(
    *arguments: str,
    wait: bool = True,
    before: tuple[str, ...] = (),
    out: int | None = None,
    err: int | None = None,
) -> Iterator[Served]:
    """A server that Python runs, once it is ready; afterwards nothing of it is left.

    arguments  of Python, in which PORT stands for the port
    before     a command that Python is run by
    out, err   where it writes, instead of files in its folder
    """
    port = free_port()
    command = [*before, sys.executable, *(one.replace("PORT", str(port)) for one in arguments)]
    with ExitStack() as stack:
        # Files, for a pipe that nobody empties would stop the server.
        folder = Path(stack.enter_context(TemporaryDirectory()))
        files = [stack.enter_context((folder / name).open("wb")) for name in ("out", "err")]
        ends = [file if end is None else end for file, end in zip(files, (out, err), strict=True)]
        process = subprocess.Popen(command, stdout=ends[0], stderr=ends[1], start_new_session=True)
        there = Served(process, port, folder)
        stack.callback(_kill, there)
        if wait:
            until(lambda: there.is_ready() or process.poll() is not None, "it is ready")
            assert process.poll() is None, there.lines("err")
            there.of("worker")
        yield there


def _kill(there: Served) -> None:
    for pid in {there.pid, *there.seen, *children(there.pid)}:
        if runs(pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    there.process.wait(PATIENCE)


@contextmanager
def served(
    engine: dict[str, Any] | None = None,
    wait: bool = True,
    before: tuple[str, ...] = (),
    out: int | None = None,
    err: int | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """A server of stubs; see serve_stub_main.py for what they take."""
    asked = json.dumps({"drain_delay": 0.0, **settings})[:-1] + ', "port": PORT}'
    given = str(SCRIPT), asked, json.dumps(engine or {})
    with running(*given, wait=wait, before=before, out=out, err=err) as there:
        yield there

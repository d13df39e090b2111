"""What the benchmarks of the server share: a server's processes, what they use, and load on it.

(Linux only.) All of a server's processes count: those that its first process started, and what
those started.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

__all__ = ["Load", "Request", "Usage", "call", "kinds", "load", "serving", "spread", "usage"]

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LISTENING = "0A"  # in /proc/net/tcp


class Request(NamedTuple):
    """What is sent again and again."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    pictures: int = 1


class Load(NamedTuple):
    """What came of it. `failed` are requests without an answer, or with another one than 200."""

    requests: int
    failed: int
    seconds: float
    half: float  # of the requests took no longer than so many seconds
    most: float  # 99 % of them


class Usage(NamedTuple):
    """Of one process."""

    cpu: float  # seconds, of the system too
    resident: int  # bytes


# --- processes ------------------------------------------------------------------------------------


def descendants(first: int) -> list[int]:
    """A process and all that came of it, as far as their parents live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [first]
    for pid in found:
        found += children.get(pid, [])
    return found


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def usage(pids: Sequence[int]) -> dict[int, Usage]:
    """What each of them that lives has used so far."""
    rows = {pid: stat(pid) for pid in pids}
    return {
        pid: Usage((int(row[11]) + int(row[12])) / TICK, int(row[21]) * PAGE)
        for pid, row in rows.items()
        if row
    }


def kinds(first: int, port: int) -> dict[int, str]:
    """What each process of a server is: main, api, worker, manager or other.

    Workers are those that multiprocessing spawned, APIs hold the listening socket, and the manager
    is the one of queues that stock LitServe has.
    """
    socket, managing = listening(port), managers()
    found = {}
    for pid in descendants(first):
        line = command(pid)
        if pid == first:
            found[pid] = "main" if len(descendants(first)) > 1 else "api"
        elif "spawn_main" in line:
            found[pid] = "worker"
        elif managing & opened(pid):
            found[pid] = "manager"
        else:
            found[pid] = "api" if socket in opened(pid) else "other"
    return found


def command(pid: int) -> str:
    """How a process was started."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def listening(port: int) -> str:
    """The socket that listens at a port, as /proc/PID/fd shows it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == LISTENING:
            return f"socket:[{fields[9]}]"
    return "none"


def managers() -> set[str]:
    """The sockets at which managers of multiprocessing listen."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return {f"socket:[{line.split()[6]}]" for line in lines if "/listener-" in line}


def opened(pid: int) -> set[str]:
    """What a process holds open."""
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(link))
    return found


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, ready: str, patience: float = 120) -> Iterator[int]:
    """Starts a server, waits until `ready` is answered 200, and ends all of it afterwards."""
    environ = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(command, env={**os.environ, **environ}, start_new_session=True)
    try:
        end = time.monotonic() + patience
        while not answers(port, ready):
            if server.poll() is not None or time.monotonic() > end:
                sys.exit(f"it did not start: {' '.join(command)}")
            time.sleep(0.2)
        yield server.pid
    finally:
        # All at once, and without a farewell: stock LitServe leaves orphans upon SIGTERM.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(port: int, path: str) -> bool:
    """Whether a server says 200."""
    try:
        return call(port, Request(path, {}, b""), "GET")[0] == 200
    except OSError:
        return False


def call(port: int, request: Request, method: str = "POST") -> tuple[int, bytes]:
    """(status, body) of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, request.path, request.body or None, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()


# --- load -----------------------------------------------------------------------------------------


def load(port: int, request: Request, seconds: float, connections: int) -> Load:
    """As many requests as the server takes, by wrk where it is installed, else by this process."""
    if shutil.which("wrk"):
        return wrk(port, request, seconds, connections)
    return asyncio.run(by_hand(port, request, seconds, connections))


SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*all")
{headers}
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("\\n[%d, %d, %f, %f, %f]\\n", summary.requests, failed,
    summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


def wrk(port: int, request: Request, seconds: float, connections: int) -> Load:
    """Load by wrk, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "load.lua")
        body.write_bytes(request.body)
        lines = (f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items())
        script.write_text(SCRIPT.format(body=body, headers="\n".join(lines)))
        url = f"http://127.0.0.1:{port}{request.path}"
        options = [f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout=60s", "-s"]
        printed = subprocess.check_output(["wrk", "-t1", *options, script, url], text=True)
    return Load(*json.loads(printed.splitlines()[-1]))


async def by_hand(port: int, request: Request, seconds: float, connections: int) -> Load:
    """The same without wrk. It takes more CPU than some servers, so seconds mean little."""
    took: list[float] = []
    start = time.monotonic()
    failed = sum(
        await asyncio.gather(
            *(one(port, request, start + seconds, took) for _ in range(connections))
        )
    )
    took.sort()
    parts = (took[len(took) // 2], took[len(took) * 99 // 100]) if took else (0.0, 0.0)
    return Load(len(took), failed, time.monotonic() - start, *parts)


async def one(port: int, request: Request, end: float, took: list[float]) -> int:
    """One connection's requests until the end; how many failed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = {**request.headers, "host": "localhost", "content-length": str(len(request.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {request.path} HTTP/1.1\r\n{lines}\r\n".encode()
    failed = 0
    while time.monotonic() < end:
        begun = time.monotonic()
        writer.write(head)
        writer.write(request.body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took.append(time.monotonic() - begun)
        failed += not answer.startswith(b"http/1.1 200 ")
    writer.close()
    return failed


# --- figures --------------------------------------------------------------------------------------


def spread(values: Sequence[float], digits: int) -> str:
    """The median, the least and the most."""
    return (
        f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
        if values
        else ""
    )

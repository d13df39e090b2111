"""What a request costs, in CPU time of all processes of a server, beside two others.

    python benchmarks/serve_http.py --runs 5

Prints a Markdown table. Every server runs by itself, as serve_peers.py says; in each round all take
turns, in another order, and ratios are taken within a round. Load comes from wrk where it is
installed, whose own time does not count. (Linux only.)

    raw     one picture of 256 x 256 as raw pixels, 32 connections
    jpeg    the same as a JPEG; png: as a PNG
    raw16   16 pictures of raw pixels in one request, 8 connections
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from PIL import Image
from serve_measure import HERE, Request, call, kinds, load, serving, spread, usage
from serve_peers import BINARY, SIZE, codes_of, pixels_of

WAYS = ("vqtok", "litserve", "starlette")
NAMES = {"vqtok": "`vqtok.serve`", "litserve": "stock LitServe", "starlette": "bare Starlette"}
WORKLOADS = {
    "raw": "one picture, raw",
    "jpeg": "one picture, JPEG",
    "png": "one picture, PNG",
    "raw16": "16 pictures in a request, raw",
}
CONNECTIONS = {"raw": 32, "jpeg": 32, "png": 32, "raw16": 8}
KINDS = ("api", "worker", "manager", "main", "other")
# (workload, way, at most so many times that one); of the issue that asked for the server
TARGETS = (
    ("raw", "litserve", 0.16),
    ("raw", "starlette", 2.3),
    ("jpeg", "starlette", 1.5),
)
PORT = 18600  # and those above
Spent = dict[str, float]  # kind of process -> CPU ms a request


def main() -> None:
    """Measures as the arguments say."""
    options = arguments()
    found: dict[tuple[str, str], list[Spent]] = {}
    for number in range(options.runs):
        turn = number % len(options.ways)
        for way in [*options.ways[turn:], *options.ways[:turn]]:
            for workload, spent in measured(way, options).items():
                found.setdefault((way, workload), []).append(spent)
                total = sum(spent.values())
                print(f"{number} {way} {workload}: {total:.3f} ms", file=sys.stderr, flush=True)
    print(heading(options))
    print(table(found, options))
    if set(WAYS) <= set(options.ways):
        print()
        print(verdicts(found))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of load for each figure")
    parser.add_argument("--warm", type=float, default=1, help="seconds of load before it")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--workloads", nargs="+", choices=[*WORKLOADS], default=[*WORKLOADS])
    parser.add_argument("--port", type=int, default=PORT)
    return parser.parse_args()


# --- measuring ------------------------------------------------------------------------------------


def measured(way: str, options: argparse.Namespace) -> dict[str, Spent]:
    """What each workload costs one server, started for it."""
    port = options.port + WAYS.index(way)
    command = [sys.executable, str(HERE / "serve_peers.py"), way, str(port)]
    with serving(command, port, "/ready") as first:
        return {name: spent(first, port, name, options) for name in options.workloads}


def spent(first: int, port: int, workload: str, options: argparse.Namespace) -> Spent:
    """CPU ms a request, by kind of process."""
    request = requests()[workload]
    check(port, request)
    load(port, request, options.warm, CONNECTIONS[workload])
    roles = kinds(first, port)
    before = usage([*roles])
    seen = load(port, request, options.seconds, CONNECTIONS[workload])
    after = usage([*roles])
    if seen.failed or after.keys() != before.keys():
        sys.exit(f"{seen.failed} of {seen.requests} requests failed, or a process ended")
    total = dict.fromkeys(KINDS, 0.0)
    for pid, kind in roles.items():
        total[kind] += 1000 * (after[pid].cpu - before[pid].cpu) / seen.requests
    return total


def requests() -> Mapping[str, Request]:
    """What is sent: the same pixels each time."""
    noise = np.random.default_rng(0).normal(size=(16, SIZE // 8, SIZE // 8, 3))
    small = [Image.fromarray((128 + 40 * one).clip(0, 255).astype(np.uint8)) for one in noise]
    pixels = np.stack(
        [np.asarray(one.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for one in small]
    )
    return {
        "raw": raw(pixels[:1]),
        "jpeg": file(pixels[0], "jpeg", quality=90),
        "png": file(pixels[0], "png"),
        "raw16": raw(pixels),
    }


def file(pixels: np.ndarray, kind: str, **options: int) -> Request:
    """A picture as a file."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind, **options)
    headers = {"content-type": f"image/{kind}", "accept": BINARY}
    return Request("/v1/encode", headers, written.getvalue())


def raw(pixels: np.ndarray) -> Request:
    """Pictures as they are."""
    shape = pixels.shape if len(pixels) > 1 else pixels.shape[1:]
    headers = {
        "content-type": BINARY,
        "accept": BINARY,
        "x-vqtok-shape": ",".join(map(str, shape)),
        "x-vqtok-dtype": "uint8",
    }
    return Request("/v1/encode", headers, pixels.tobytes(), len(pixels))


def check(port: int, request: Request) -> None:
    """Every server is to give the same codes."""
    status, body = call(port, request)
    if status != 200 or body != codes_of(pixels_of(request.body)).tobytes():
        sys.exit(f"the answer is not right: {status} {body[:200]!r}")


# --- what is printed ------------------------------------------------------------------------------


def heading(options: argparse.Namespace) -> str:
    """How it was measured."""
    names = ("litserve", "starlette", "uvicorn", "numpy", "pillow")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    busy = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"`python benchmarks/serve_http.py {' '.join(sys.argv[1:])}`\n\n"
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores, load average at the end {busy}; "
        f"Python {sys.version.split()[0]}, {versions}; {options.runs} rounds\n"
    )


def table(found: Mapping[tuple[str, str], Sequence[Spent]], options: argparse.Namespace) -> str:
    """Markdown."""
    lines = [
        "| | | CPU ms a request (spread) | API | worker | manager | times Starlette (spread) "
        "| times LitServe (spread) |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for workload in options.workloads:
        for way in options.ways:
            rounds = found[way, workload]
            parts = [f"{median(one[kind] for one in rounds):.3f}" for kind in KINDS[:3]]
            versus = [
                spread(ratios(found, workload, way, other), 2)
                for other in ("starlette", "litserve")
            ]
            cells = [WORKLOADS[workload], NAMES[way], spread(totals(rounds), 3), *parts, *versus]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def totals(rounds: Sequence[Spent]) -> list[float]:
    """CPU ms a request of each round."""
    return [sum(one.values()) for one in rounds]


def ratios(
    found: Mapping[tuple[str, str], Sequence[Spent]], workload: str, way: str, other: str
) -> list[float]:
    """What one costs for what another costs, round by round."""
    if way == other or (other, workload) not in found:
        return []
    pairs = zip(totals(found[way, workload]), totals(found[other, workload]), strict=True)
    return [one / two for one, two in pairs]


def verdicts(found: Mapping[tuple[str, str], Sequence[Spent]]) -> str:
    """What was asked for, and what is."""
    lines = []
    for workload, other, limit in TARGETS:
        ratio = median(ratios(found, workload, "vqtok", other))
        lines.append(
            f"- {WORKLOADS[workload]}: {ratio:.3f} times {NAMES[other]}; wanted at most {limit}"
        )
    worker = median(one["worker"] for one in found["vqtok", "raw"])
    lines.append(f"- of it in the worker: {worker:.3f} ms; wanted at most 0.06")
    pairs = zip(totals(found["vqtok", "raw16"]), totals(found["vqtok", "raw"]), strict=True)
    each = median(one / 16 / two for one, two in pairs)
    lines.append(f"- a picture of 16 in a request: {each:.3f} times one alone; wanted at most 0.65")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

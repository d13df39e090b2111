"""Whether memory stays flat: many requests of every kind, and what each process holds meanwhile.

    python benchmarks/serve_soak.py --requests 20000

Prints a Markdown table. The tokenizer is photo-tiny on pictures of 32 x 32, so that it is soon over
on a CPU. Requests are encodes of raw pixels, of JPEGs and of several at once, decodes,
reconstructions, latents, and some that are refused or whose client leaves halfway. (Linux only.)
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image
from serve_measure import Request, call, kinds, serving, usage

SIDE = 32
RAW = "application/octet-stream"
KINDS = ("api", "worker", "main", "other")
PORT = 18660


def main() -> None:
    """Measures as the arguments say."""
    options = arguments()
    command = [sys.executable, "-m", "vqtok", "serve", options.tokenizer, "--size", str(SIDE)]
    command += ["--port", str(PORT), "--log", "off", "--device", "cpu"]
    with serving(command, PORT, "/ready") as first:
        rows, seen = asyncio.run(soak(first, options))
        free = slots()
    print(heading(options, seen))
    print(table(rows, options))
    print(f"\nSlots free afterwards: {free}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=10, help="how often memory is looked at")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--tokenizer", default="photo-tiny")
    return parser.parse_args()


# --- what is sent ---------------------------------------------------------------------------------


def requests() -> list[tuple[Request, int]]:
    """(request, the status it is to have)."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "JPEG")
    one = raw("/v1/encode", pixels[0])
    status, codes = call(PORT, raw("/v1/encode", pixels[0], "application/json"))
    assert status == 200, codes
    of_json = {"content-type": "application/json"}
    wrong = json.loads(codes) | {"pictures": [{"codes": [[99_999]]}]}
    jpeg = {"content-type": "image/jpeg"}
    return [
        (one, 200),
        (raw("/v1/encode", pixels), 200),
        (raw("/v1/encode?output=latents", pixels[1]), 200),
        (raw("/v1/reconstruct", pixels[2]), 200),
        (Request("/v1/encode", jpeg, file.getvalue()), 200),
        (Request("/v1/decode", of_json, codes), 200),
        (Request("/v1/encode", jpeg, file.getvalue()[:500]), 400),
        (Request("/v1/decode", of_json, json.dumps(wrong).encode()), 422),
    ]


def raw(path: str, pixels: np.ndarray, accept: str = RAW) -> Request:
    """Pixels as they are."""
    shape = ",".join(map(str, pixels.shape))
    headers = {"content-type": RAW, "accept": accept, "x-vqtok-shape": shape}
    return Request(path, headers, pixels.tobytes())


# --- measuring ------------------------------------------------------------------------------------


async def soak(
    first: int, options: argparse.Namespace
) -> tuple[list[tuple[int, dict[str, float]]], Counter[str]]:
    """(requests so far, MB by kind of process) again and again; how often what was answered."""
    sent = requests()
    seen: Counter[str] = Counter()
    share = options.requests // options.steps
    rows = []
    for step in range(options.steps + 1):
        if step:
            todo = iter(range(share))
            await asyncio.gather(*(lane(sent, todo, seen) for _ in range(options.connections)))
        rows.append((step * share, memory(first)))
        print(f"{step * share}: {rows[-1][1]}", file=sys.stderr, flush=True)
    return rows, seen


async def lane(sent: Sequence[tuple[Request, int]], todo: object, seen: Counter[str]) -> None:
    """One connection's share; every 20th request is of a client that leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    for number in todo:  # type: ignore[attr-defined]
        request, wanted = sent[number % len(sent)]
        head = head_of(request)
        if number % 20 == 19:
            await leave(head + request.body[: len(request.body) // 2])
            seen["left"] += 1
            continue
        writer.write(head + request.body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answer.split(b" ", 2)[1])
        length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        if status != wanted:
            sys.exit(f"{request.path} was answered {status}, not {wanted}")
        seen[str(status)] += 1
    writer.close()


def head_of(request: Request) -> bytes:
    """Line and headers."""
    headers = {**request.headers, "host": "localhost", "content-length": str(len(request.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {request.path} HTTP/1.1\r\n{lines}\r\n".encode()


async def leave(sent: bytes) -> None:
    """Half of a request, and gone."""
    _, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(sent)
    await writer.drain()
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
    )
    writer.close()


def memory(first: int) -> dict[str, float]:
    """MB resident, by kind of process; of several of a kind their sum."""
    roles = kinds(first, PORT)
    held = usage([*roles])
    total = dict.fromkeys(KINDS, 0.0)
    for pid, kind in roles.items():
        if pid in held:
            total[kind if kind in total else "other"] += held[pid].resident / 1e6
    return total


def slots() -> str:
    """What /metrics says of them."""
    lines = call(PORT, Request("/metrics", {}, b""), "GET")[1].decode().splitlines()
    return "; ".join(line for line in lines if line.startswith(("vqtok_slots", "vqtok_in_flight")))


# --- what is printed ------------------------------------------------------------------------------


def heading(options: argparse.Namespace, seen: Counter[str]) -> str:
    """How it was measured."""
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(seen.items()))
    return (
        f"`python benchmarks/serve_soak.py {' '.join(sys.argv[1:])}`\n\n"
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores; {options.connections} connections; "
        f"answers: {told}\n"
    )


def table(rows: Sequence[tuple[int, dict[str, float]]], options: argparse.Namespace) -> str:
    """Markdown."""
    lines = [
        "| requests | API processes, MB | worker, MB | main, MB | other, MB |",
        "|---:|---:|---:|---:|---:|",
    ]
    for count, held in rows:
        cells = " | ".join(f"{held[kind]:.0f}" for kind in KINDS)
        lines.append(f"| {count:,} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

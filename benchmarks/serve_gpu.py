"""Pictures a second that are served, beside those of the bare model on the same device.

    python benchmarks/serve_gpu.py --tokenizer photo-tiny --size 256 --precision bf16

Prints a Markdown table. The bare model encodes batches of pixels that lie in memory already, one
after the other, as fast as the device takes them; served ones arrive as raw pixels over HTTP, many
in a request, and leave as codes. The goal is 90 % of the former. On a CPU, whose cores the server
takes from the model, it is a rehearsal of itself and no measurement. (Linux only.)
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
from serve_measure import Request, call, load, serving, spread

RAW = "application/octet-stream"
PORT = 18680
GOAL = 0.9


def main() -> None:
    """Measures as the arguments say."""
    options = arguments()
    bare: list[float] = []
    served: list[float] = []
    for number in range(options.runs):
        for kind in ("bare", "served") if number % 2 else ("served", "bare"):
            rate = (bare_rate if kind == "bare" else served_rate)(options)
            (bare if kind == "bare" else served).append(rate)
            print(f"{number} {kind}: {rate:.1f} a second", file=sys.stderr, flush=True)
    print(heading(options))
    print(table(bare, served))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokenizer", default="photo-tiny")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="ieee32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=16, help="of a request")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--api-processes", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def bare_rate(options: argparse.Namespace) -> float:
    """Pictures a second of the model alone, as the server's worker runs it, without a server."""
    import torch

    from vqtok.serve.items import Item
    from vqtok.serve.load import Load
    from vqtok.serve.slab import Op
    from vqtok.wanted import Wanted

    torch.set_num_threads(1)  # as the server has it here
    engine = Load(
        name="bare",
        wanted=Wanted(name=options.tokenizer),
        size=options.size,
        precision=options.precision,
        max_batch=options.batch,
    )(options.device)
    items = [Item({"pixels": one}) for one in pictures(options.batch, options.size)]
    engine.warm_up(options.batch, lambda: None)
    engine.run(Op.ENCODE, items)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < options.seconds:
        engine.run(Op.ENCODE, items)  # ends with codes in this process's memory
        count += len(items)
    return count / (time.perf_counter() - begun)


def served_rate(options: argparse.Namespace) -> float:
    """Pictures a second through HTTP."""
    command = [sys.executable, "-m", "vqtok", "serve", options.tokenizer, "--port", str(PORT)]
    given = {
        "size": options.size,
        "device": options.device,
        "precision": options.precision,
        "max-batch": options.batch,
        "api-processes": options.api_processes,
        "slots": 4 * options.batch,
        "max-body": f"{2 * options.pictures * options.size**2 * 3}",
        "timeout": 120,
        "log": "off",
    }
    for name, value in given.items():
        command += [f"--{name}", str(value)]
    request = raw(pictures(options.pictures, options.size))
    with serving(command, PORT, "/ready", patience=600):
        status, body = call(PORT, request)
        if status != 200:
            sys.exit(f"the answer is not right: {status} {body[:200]!r}")
        load(PORT, request, 2, options.connections)
        seen = load(PORT, request, options.seconds, options.connections)
    if seen.failed:
        sys.exit(f"{seen.failed} of {seen.requests} requests failed")
    return seen.requests * options.pictures / seen.seconds


def pictures(count: int, size: int) -> np.ndarray:
    """Random pixels (count, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def raw(pixels: np.ndarray) -> Request:
    """Pictures as they are."""
    shape = ",".join(map(str, pixels.shape))
    headers = {"content-type": RAW, "accept": RAW, "x-vqtok-shape": shape}
    return Request("/v1/encode", headers, pixels.tobytes(), len(pixels))


def heading(options: argparse.Namespace) -> str:
    """How it was measured."""
    import torch

    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    return (
        f"`python benchmarks/serve_gpu.py {' '.join(sys.argv[1:])}`\n\n"
        f"{time.strftime('%Y-%m-%d')}; {device}, {os.cpu_count()} cores; "
        f"torch {torch.__version__}, litserve {importlib.metadata.version('litserve')}; "
        f"{options.runs} rounds\n"
    )


def table(bare: Sequence[float], served: Sequence[float]) -> str:
    """Markdown."""
    ratios = [one / other for one, other in zip(served, bare, strict=True)]
    return (
        "| | pictures a second (spread) |\n|---|---:|\n"
        f"| the bare model | {spread(bare, 1)} |\n| served | {spread(served, 1)} |\n\n"
        f"Served over bare: {spread(ratios, 3)}, {median(ratios):.3f} of {GOAL} wanted"
    )


if __name__ == "__main__":
    main()

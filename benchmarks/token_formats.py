"""How large rows of tokens are, and how fast they are written, beside a file for each picture.

    python benchmarks/token_formats.py --images 4000 --codes 1024 --codebook 16384 --runs 7

Prints a Markdown table. Rates are pictures a second of CPU time, this process's and the system's
on its behalf, with files really written. In each run all ways take turns, so that whatever else
the machine does meets them alike; ratios are taken within a run.

The peer is the loop of LlamaGen's `extract_codes_c2i.py` as it stores: for each picture one
`np.save` of its int64 codes (1, views, length), one of its label.
"""

from __future__ import annotations

import argparse
import gc
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow

from vqtok.offline.formats import FORMATS
from vqtok.offline.plan import Plan, SourcePlan, TokenizerPlan, listing_of
from vqtok.offline.rows import Row, Rows
from vqtok.offline.store import open_store

PEER = "LlamaGen's loop"
BLOCK = 4096  # what a file takes of a disk is a multiple of it


def main() -> None:
    """Measures as the arguments say."""
    options = arguments()
    rows, plan = made(options.images, options.codes, options.codebook, options.seed)
    ways = {PEER: peer(rows)} | {name: ours(name, rows, plan) for name in FORMATS}
    folder = Path(tempfile.mkdtemp(prefix="token-formats-", dir=options.folder))
    try:
        rates, shares, sizes = measured(ways, folder, options.runs, len(rows))
        read = {name: reading(name, rows, plan, folder, options.runs) for name in FORMATS}
    finally:
        shutil.rmtree(folder)
    print(f"`python benchmarks/token_formats.py {' '.join(sys.argv[1:])}`\n")
    print(f"numpy {np.__version__}, pyarrow {pyarrow.__version__}; {options.runs} runs\n")
    print(table(rates, shares, sizes, read))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=4000, help="rows, all in one shard")
    parser.add_argument("--codes", type=int, default=1024, help="of one picture; a square")
    parser.add_argument("--codebook", type=int, default=16384, help="how many codes there are")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=None, help="where files are written")
    return parser.parse_args()


def made(images: int, length: int, codebook: int, seed: int) -> tuple[Rows, Plan]:
    """Random codes: nothing compresses them, and real ones hardly compress either."""
    random = np.random.default_rng(seed)
    side = int(length**0.5)
    labels = np.sort(random.integers(0, 1000, images)).tolist()
    keys = [f"n{label:08d}/n{label:08d}_{n:06d}.JPEG" for n, label in enumerate(labels)]
    dtype = "uint16" if codebook <= 1 << 16 else "uint32"
    rows = Rows(
        keys=keys,
        views=["center"] * images,
        boxes=np.tile(np.int32([0, 62, 375, 375]), (images, 1)),
        flips=np.zeros(images, bool),
        sizes=np.full((images, 2), 8 * side, np.int32),
        grids=np.full((images, 2), side, np.int32),
        scales=[()] * images,
        codes=random.integers(0, codebook, (images, side, side)).astype(dtype),
        latents=None,
        labels=labels,
        texts=[None] * images,
        columns=[""] * images,
    )
    return rows, plan_of(keys, codebook, dtype)


def plan_of(keys: list[str], codebook: int, dtype: str) -> Plan:
    """One shard of labelled pictures."""
    prints = dict.fromkeys(("preprocess", "encoder", "codebook", "decoder"), "0" * 64)
    tokenizer = TokenizerPlan(
        name="none",
        fingerprint={"schema": "vqtok-fp/1", **prints},
        precision="ieee32",
        codebook_size=codebook,
        depth=0,
        is_video=False,
        latent_channels=8,
    )
    return Plan(
        source=SourcePlan(kind="folder", samples=len(keys), listing=listing_of(keys)),
        tokenizer=tokenizer,
        preprocess={"policy": "center"},
        views=("center",),
        view_names=("center",),
        dtype="uint16" if dtype == "uint16" else "uint32",
        batch=32,
        shard_size=len(keys),
        shards=1,
        label="int",
    )


Way = Callable[[Path], None]


def peer(rows: Rows) -> Way:
    """A file of codes and one of the label, for each picture; both are int64 to begin with."""
    codes = np.array(rows.codes, np.int64).reshape(len(rows), 1, 1, -1)
    labels = np.array(rows.labels, np.int64).reshape(-1, 1)

    def write(folder: Path) -> None:
        (folder / "codes").mkdir()
        (folder / "labels").mkdir()
        for number in range(len(rows)):
            np.save(f"{folder}/codes/{number}.npy", codes[number])
            np.save(f"{folder}/labels/{number}.npy", labels[number])

    return write


def ours(name: str, rows: Rows, plan: Plan) -> Way:
    """A shard."""

    def write(folder: Path) -> None:
        (folder / "shards").mkdir()
        for file, data in FORMATS[name].write(rows, plan, "00000").items():
            (folder / "shards" / file).write_bytes(data)

    return write


def measured(
    ways: dict[str, Way], folder: Path, runs: int, count: int
) -> tuple[dict[str, list[float]], dict[str, float], dict[str, tuple[float, float]]]:
    """Rates of each run, the system's share of the time, and bytes a row: of files, of a disk."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    sizes: dict[str, tuple[float, float]] = {}
    for run in range(runs + 1):
        for name, way in ways.items():
            out = folder / "written"
            out.mkdir()
            seconds, system = cpu(lambda way=way, out=out: way(out))  # type: ignore[misc]
            files = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
            blocks = sum(-(-size // BLOCK) * BLOCK for size in files)
            sizes[name] = sum(files) / count, blocks / count
            shutil.rmtree(out)
            if run:  # the first one imports and warms up
                rates[name].append(count / seconds)
                shares[name].append(system / seconds)
    return rates, {name: median(found) for name, found in shares.items()}, sizes


def cpu(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of CPU time, at least as many as the clock can tell; of them, the system's."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    return max(after.ru_utime - before.ru_utime + system, 1e-6), system


def reading(name: str, rows: Rows, plan: Plan, folder: Path, runs: int) -> tuple[float, float]:
    """Rows a second: all rows in order, 64 at a time; and single ones here and there."""
    out = folder / name
    out.mkdir()
    ours(name, rows, plan)(out)
    store = open_store(str(out))
    files = [path.name for path in (out / "shards").iterdir()]
    reader = FORMATS[name].read(store, sorted(files), plan)
    places = np.random.default_rng(0).integers(0, len(rows), 200).tolist()
    order, single = [], []
    for _ in range(runs):
        seconds, _ = cpu(lambda: [part.codes for part in batches(reader, len(rows))])
        order.append(len(rows) / seconds)
        seconds, _ = cpu(lambda: [touched(reader.rows(at, at + 1)[0]) for at in places])
        single.append(len(places) / seconds)
    return median(order), median(single)


def batches(reader: object, count: int) -> Iterator[Rows]:
    """64 rows at a time."""
    for start in range(0, count, 64):
        yield reader.rows(start, min(start + 64, count))  # type: ignore[attr-defined]


def touched(row: Row) -> int:
    """Reads a row's codes, which may only be mapped into memory."""
    return int(row.codes.sum()) if row.codes is not None else 0


def table(
    rates: dict[str, list[float]],
    shares: dict[str, float],
    sizes: dict[str, tuple[float, float]],
    read: dict[str, tuple[float, float]],
) -> str:
    """Markdown."""
    lines = [
        "| | bytes a row | on disk | written, rows a CPU second (spread) | of it system "
        "| times the loop (spread) | read in order | single rows |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in rates.items():
        ratios = [one / other for one, other in zip(found, rates[PEER], strict=True)]
        order, single = (f"{rate:,.0f}" for rate in read[name]) if name in read else ("", "")
        lines.append(
            f"| {name} | {sizes[name][0]:,.0f} | {sizes[name][1]:,.0f} | {spread(found, 0)} "
            f"| {shares[name]:.0%} | {spread(ratios, 1)} | {order} | {single} |"
        )
    return "\n".join(lines)


def spread(values: list[float], places: int) -> str:
    """The median, the least and the greatest."""
    low, middle, high = (f"{of(values):,.{places}f}" for of in (min, median, max))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()

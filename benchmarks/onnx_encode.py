"""Encoding and decoding on ONNX Runtime beside torch: seconds of the processor and of the clock.

    python benchmarks/onnx_encode.py --models photo-tiny ldm-f8 --threads 1 2 --batch 1 8 --runs 7

Prints Markdown tables. What is measured takes uint8 pixels to ids, and ids to uint8 pixels, as a
tokenizer's codec does, on photographs of the package cut to 256 x 256. Each number of threads and
batch size has a process of its own, in which all engines take turns, in another order every run;
ratios to torch's eager mode are taken within a run, so that whatever else the machine does meets
all alike. Ids of every engine are compared with those of torch's eager mode.

    eager          torch as it comes
    channels last  the same, with weights and pixels laid that way
    compiled       `torch.compile` of both networks, channels last
    frozen         the same, with inductor's `freezing`: weights laid anew where that is faster
    onnx           ONNX Runtime, through vqtok's runtime, on what `vqtok export` writes

Models are photo-tiny, and ldm-f8: the network of the preset vqgan_ldm_f8 with random weights, its
16,384 codes drawn as its latents lie.

With `--device cuda` torch and ONNX Runtime, by its IO binding, run on a GPU, and only the clock is
read.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

EAGER = "eager"
NAMES = {
    EAGER: "torch, eager",
    "channels last": "torch, channels last",
    "compiled": "torch.compile, channels last",
    "frozen": "torch.compile, channels last, frozen",
    "onnx": "ONNX Runtime",
}
PARTS = ("encode", "decode")
SIZE = 256
LEAST = 0.5  # seconds that one reading takes at least
Array = npt.NDArray[Any]


class Cell(NamedTuple):
    """What one process measures."""

    model: str
    threads: int
    batch: int


def main() -> None:
    """Measures as the arguments say; or, in a process of its own, one cell."""
    options = arguments()
    if options.cell:
        model, threads, batch = options.cell
        print(json.dumps(measured(Cell(model, int(threads), int(batch)), options)))
        return
    with tempfile.TemporaryDirectory(prefix="onnx-encode-") as made:
        options.folder = options.folder or made
        for model in options.models:
            prepare(Path(options.folder) / model, model)
        cells = [Cell(*each) for each in product(options)]
        found = {cell: in_process(cell, options) for cell in cells}
    print(heading(options))
    for model in options.models:
        for part in PARTS:
            print(table(model, part, {c: found[c] for c in cells if c.model == model}, options))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument("--engines", nargs="+", choices=[*NAMES], default=[*NAMES])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--folder", default=None, help="where exports are kept for the next call")
    parser.add_argument("--cell", nargs=3, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def product(options: argparse.Namespace) -> list[tuple[str, int, int]]:
    """Every model with every number of threads and batch size."""
    pairs = [(threads, batch) for threads in options.threads for batch in options.batch]
    return [(model, *pair) for model in options.models for pair in pairs]


# --- the models -----------------------------------------------------------------------------------


def prepare(folder: Path, model: str) -> None:
    """Its tokenizer in folder/torch, and what `vqtok export` makes of it in folder/onnx."""
    from vqtok.export import export

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "torch").exists():
        MODELS[model]().save_pretrained(folder / "torch")
    if not (folder / "onnx").exists():
        print(f"{model} is exported", file=sys.stderr, flush=True)
        export(folder / "torch", folder / "onnx")


def photo_tiny() -> Any:
    """The tokenizer in the package."""
    from vqtok import VisualTokenizer

    return VisualTokenizer.from_pretrained("photo-tiny").with_preprocess(size=SIZE)


def ldm_f8() -> Any:
    """A large network of stride 8 that was never trained."""
    import torch

    from vqtok import VisualTokenizer
    from vqtok.preprocess import Preprocess
    from vqtok.training.parts import make_model
    from vqtok.training.presets import load_settings, parse_choice

    torch.manual_seed(0)
    choices = [parse_choice(text) for text in ("codebook.start=kaiming", "data.path=.")]
    model = make_model(load_settings("vqgan_ldm_f8", choices).settings).eval()
    pixels = torch.from_numpy(photographs(2)).permute(0, 3, 1, 2)
    with torch.no_grad():
        latents = model.encode(pixels / 127.5 - 1).latents.movedim(1, -1).flatten(0, 2)
        codes = model.quantize.embedding.weight
        codes.copy_(latents.mean(0) + latents.std(0) * torch.randn_like(codes))
    return VisualTokenizer.from_model(model, Preprocess(size=SIZE, stride=8))


MODELS: dict[str, Callable[[], Any]] = {"photo-tiny": photo_tiny, "ldm-f8": ldm_f8}


def photographs(count: int) -> Array:
    """Squares out of the package's photographs, (count, 256, 256, 3) uint8."""
    from vqtok.pictures import load_image
    from vqtok.preprocess import Preprocess, preprocess
    from vqtok.zoo import samples

    random, settings, cut = np.random.default_rng(0), Preprocess(size=SIZE), []
    pictures = [load_image(path) for path in samples()]
    for number in range(count):
        picture = pictures[number % len(pictures)]
        side = random.integers(SIZE, min(picture.shape[:2]) + 1)
        top, left = (random.integers(0, length - side + 1) for length in picture.shape[:2])
        cut.append(preprocess(picture[top : top + side, left : left + side], settings))
    return np.stack(cut)


# --- the engines ----------------------------------------------------------------------------------


def codecs(folder: Path, cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Each engine's codec, eager first."""
    import torch

    from vqtok import VisualTokenizer
    from vqtok.export.runtime import OnnxBackend

    torch.set_num_threads(cell.threads)
    made = {EAGER: VisualTokenizer.from_pretrained(folder / "torch", device=options.device).codec}
    for engine in options.engines:
        if engine == "onnx":
            backend = OnnxBackend(providers=(options.device,), threads=cell.threads)
            made[engine] = VisualTokenizer.from_pretrained(folder / "onnx", backend=backend).codec
        elif engine != EAGER:
            made[engine] = varied(made[EAGER], engine)
    return made


def varied(codec: Any, engine: str) -> Any:
    """The same codec of a model that is laid or compiled differently."""
    import torch

    model = deepcopy(codec.model).to(memory_format=torch.channels_last)
    if engine != "channels last":
        chosen = {"freezing": True} if engine == "frozen" else {}
        for network in (model.encoder, model.decoder):
            network.compile(dynamic=False, options=chosen)
    return type(codec)(model, codec.fingerprint)


# --- measuring ------------------------------------------------------------------------------------


def in_process(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own measures."""
    given = ["--runs", options.runs, "--device", options.device, "--folder", options.folder]
    command = [sys.executable, __file__, *given, "--engines", *options.engines, "--cell", *cell]
    environ = {**os.environ, "OMP_NUM_THREADS": str(cell.threads)}
    done = subprocess.run(
        [str(each) for each in command], env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    print(f"{cell} is measured", file=sys.stderr, flush=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """part -> engine -> readings of processor and clock, and how far results are eager's."""
    pixels = photographs(cell.batch)
    engines = codecs(Path(options.folder) / cell.model, cell, options)
    codes = engines[EAGER].encode(pixels)
    calls: dict[str, dict[str, Callable[[], Any]]] = {part: {} for part in PARTS}
    found: dict[str, Any] = {}
    for name, codec in engines.items():
        calls["encode"][name] = lambda codec=codec: codec.encode(pixels).ids  # type: ignore[misc]
        calls["decode"][name] = lambda codec=codec: codec.decode(codes)  # type: ignore[misc]
    for part in PARTS:
        wanted = calls[part][EAGER]()
        agreeing = {name: likeness(part, wanted, call()) for name, call in calls[part].items()}
        readings = taken_in_turns(calls[part], options.runs)
        found[part] = {
            name: {"agrees": agreeing[name], "readings": readings[name]} for name in engines
        }
    return found


def likeness(part: str, wanted: Array, got: Array) -> float:
    """The share of ids that are equal, or the most that a byte of a pixel differs by."""
    if part == "encode":
        return float((wanted == got).mean())
    return float(np.abs(wanted.astype(int) - got).max())


def taken_in_turns(
    calls: dict[str, Callable[[], Any]], runs: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of processor and clock that a call takes, of each run."""
    times = {name: max(1, round(LEAST / reading(call, 1)[1])) for name, call in calls.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = [*calls]
    for run in range(runs):
        turn = run % len(names)
        for name in [*names[turn:], *names[:turn]]:
            found[name].append(reading(calls[name], times[name]))
    return found


def reading(call: Callable[[], Any], times: int) -> tuple[float, float]:
    """Seconds of all threads, and of the clock, for one of so many calls."""
    processor, clock = time.process_time(), time.perf_counter()
    for _ in range(times):
        call()
    return (time.process_time() - processor) / times, (time.perf_counter() - clock) / times


# --- what is printed ------------------------------------------------------------------------------


def heading(options: argparse.Namespace) -> str:
    """How it was measured."""
    runtime = "onnxruntime-gpu" if installed("onnxruntime-gpu") else "onnxruntime"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", runtime)
    )
    return (
        f"`python benchmarks/onnx_encode.py {' '.join(sys.argv[1:])}`\n\n"
        f"{time.strftime('%Y-%m-%d')}; Python {sys.version.split()[0]}, {versions}; "
        f"{options.device}; {options.runs} runs\n"
    )


def installed(name: str) -> bool:
    """Whether there is a distribution of this name."""
    return any(True for _ in importlib.metadata.distributions(name=name))


def table(
    model: str, part: str, found: dict[Cell, dict[str, Any]], options: argparse.Namespace
) -> str:
    """One model, encoding or decoding: a row for each engine and cell."""
    on_cpu = options.device == "cpu"
    told = "ids as eager" if part == "encode" else "bytes apart"
    processor = "CPU ms a picture | of eager (spread) | " if on_cpu else ""
    head = f"| threads | batch | | {processor}ms a picture | of eager (spread) | {told} |"
    lines = [f"**{model}, {part}**\n", head, "|---:|---:|---|" + "---:|" * (5 if on_cpu else 3)]
    for cell, parts in found.items():
        base = np.array(parts[part][EAGER]["readings"])
        for name, results in parts[part].items():
            seconds = np.array(results["readings"])
            kinds = (0, 1) if on_cpu else (1,)
            figures = [
                text
                for kind in kinds
                for text in (
                    milliseconds(median(seconds[:, kind]) / cell.batch),
                    spread(seconds[:, kind] / base[:, kind]),
                )
            ]
            agrees = f"{results['agrees']:.5g}"
            row = [str(cell.threads), str(cell.batch), NAMES[name], *figures, agrees]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def milliseconds(seconds: float) -> str:
    """Of seconds, to a tenth where they are few."""
    return f"{1000 * seconds:,.{1 if seconds < 0.1 else 0}f}"


def spread(ratios: Array) -> str:
    """The median, with the least and the greatest."""
    return f"{median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


if __name__ == "__main__":
    main()

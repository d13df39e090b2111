"""Small jobs that are run in tests: pictures, a tiny tokenizer, a plan, a worker."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tiny
from source_files import png, write

from vqtok import VisualTokenizer
from vqtok.offline.formats import FORMATS
from vqtok.offline.job import Job, SourceSpec
from vqtok.offline.plan import ClipPlan, Options, make_plan
from vqtok.offline.records import SHARDS, Made
from vqtok.offline.rows import Rows
from vqtok.offline.store import open_store
from vqtok.offline.worker import Worker, open_spec
from vqtok.preprocess import prepare


def quiet(rows: int = 0) -> None:
    """A sign of life that nobody waits for."""


def smooth(seed: int, height: int = 20, width: int = 24) -> npt.NDArray[np.uint8]:
    """Another picture for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def pictures(root: Path, count: int = 7, bad: tuple[int, ...] = ()) -> Path:
    """Numbered pictures, of which some are no pictures."""
    for number in range(count):
        content: bytes | str = "no picture" if number in bad else png(smooth(number))
        write(root / f"{number:02d}.png", content)
    return root


def job(
    root: Path,
    out: Path,
    tok: VisualTokenizer | None = None,
    *,
    decoders: int = 2,
    clips: ClipPlan | None = None,
    kind: str | None = None,
    **options: Any,
) -> Job:
    """A job on a folder, its data set made."""
    tok = tok or tiny.tokenizer()
    out.mkdir(exist_ok=True)
    spec = SourceSpec((str(root),), kind)
    wishes = {"name": "tiny", "batch": 4, "shard_size": 4, "format": "parquet", "clips": clips}
    plan = make_plan(open_spec(spec, clips), tok, Options(**{**wishes, **options}))
    return Job(str(out), spec, Held(tok), plan, decoders)


class Held:
    """Gives a tokenizer that is there."""

    def __init__(self, tok: VisualTokenizer) -> None:
        self.tok = tok

    def __call__(self, device: str) -> VisualTokenizer:
        return self.tok


def made(work: Job, shard: int = 0) -> Made:
    with Worker(work, "cpu") as one:
        return one.make(shard, quiet)


def rows_of(result: Made, work: Job, folder: Path) -> Rows:
    """What was made, read back."""
    folder.mkdir(exist_ok=True)
    store = open_store(str(folder))
    for name, data in result.files.items():
        store.put(SHARDS + name, data)
    reader = FORMATS[work.plan.format].read(store, sorted(result.files), work.plan)
    return reader.rows(0, len(reader))


def expected(root: Path, tok: VisualTokenizer, key: str) -> npt.NDArray[Any]:
    """The codes of one picture by itself."""
    pixels = prepare(root / key, tok.settings).pixels
    codes: npt.NDArray[Any] = tok.codec.encode(pixels[None]).ids[0]
    return codes


def changed(work: Job, **fields: Any) -> Job:
    return dataclasses.replace(work, **fields)


__all__ = [
    "changed",
    "expected",
    "job",
    "made",
    "pictures",
    "quiet",
    "rows_of",
    "smooth",
]

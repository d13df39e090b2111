"""Small data sets, made by the worker of real jobs, and what they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from source_files import png, write

from vqtok.offline.commit import commit
from vqtok.offline.finish import finalize
from vqtok.offline.job import Job, SourceSpec
from vqtok.offline.plan import Options, make_plan
from vqtok.offline.read import TokenSet, open_tokens
from vqtok.offline.rows import Row
from vqtok.offline.scaled import codes_of
from vqtok.offline.store import open_store
from vqtok.offline.worker import Worker, open_spec
from vqtok.sources import Source
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes


class MadeSet(NamedTuple):
    """A data set, and the source and tokenizer that it is of."""

    tokens: TokenSet
    source: Source
    tokenizer: VisualTokenizer


class Tampered(list[Row]):
    """The rows of a set, some of which a test puts others in the place of."""

    def __init__(self, tokens: TokenSet) -> None:
        super().__init__(tokens)
        self.plan = tokens.plan

    def change(self, index: int, **changes: Any) -> None:
        self[index] = self[index]._replace(**changes)

    def codes(self, index: int) -> Codes:
        return codes_of(self[index], self.plan)


def pictures(folder: Path, sizes: Sequence[tuple[int, int]] = ((20, 24), (31, 17))) -> Path:
    """Eight pictures of noise, in two classes."""
    for number in range(8):
        height, width = sizes[number % len(sizes)]
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        write(folder / "ab"[number % 2] / f"{number}.png", png(pixels))
    return folder


def made_set(folder: Path, path: Path, tok: VisualTokenizer, **options: Any) -> MadeSet:
    """What a job makes of the source at `path`, in `folder`."""
    spec = SourceSpec((str(path),))
    source = open_spec(spec, options.get("clips"))
    plan = make_plan(source, tok, Options("tiny", **{"batch": 4, "shard_size": 4, **options}))
    store = open_store(str(folder), create=True)
    store.put("plan.json", plan.to_bytes())
    job = Job(str(folder), spec, lambda device: tok, plan)
    with Worker(job, "cpu") as worker:
        for shard in range(plan.shards):
            commit(store, plan, worker.make(shard, lambda rows=0: None))
    finalize(store)
    return MadeSet(open_tokens(folder), source, tok)

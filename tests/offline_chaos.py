"""A driver of the engine "local", as a program of its own: what test_chaos.py kills and stops.

python -m offline_chaos toy OUT
python -m offline_chaos pictures OUT PICTURES TOKENIZER
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from offline_toys import ToyWorker, job_of, plan_of

from vqtok.offline.engines.local import Local
from vqtok.offline.finish import finalize
from vqtok.offline.job import Job, SourceSpec
from vqtok.offline.ledger import PLAN, read_records, todo
from vqtok.offline.plan import Options, make_plan
from vqtok.offline.records import Record, Timing
from vqtok.offline.store import open_store

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

LEASE = 1.0


def toy(out: str) -> Job:
    return job_of(out, plan_of(60, 3), pause=0.02, broken=[5, 50], lease=LEASE)


def pictures(out: str, source: str, tokenizer: str) -> Job:
    from vqtok.sources import open_source

    options = Options("tiny", views=("center", "hflip"), batch=4, shard_size=4)
    plan = make_plan(open_source(source), loaded(tokenizer, "cpu"), options)
    open_store(out, create=True).put_if_absent(PLAN, plan.to_bytes())
    load = partial(loaded, tokenizer)
    return Job(out, SourceSpec((source,)), load, plan, decoders=1, lease=LEASE)


def loaded(folder: str, device: str) -> VisualTokenizer:
    from vqtok.tokenizer import VisualTokenizer

    return VisualTokenizer.from_pretrained(Path(folder))


def watch(record: Record, timing: Timing | None) -> None:
    print(record.shard, flush=True)


def main(kind: str, *arguments: str) -> None:
    job = {"toy": toy, "pictures": pictures}[kind](*arguments)
    store = open_store(job.out)
    making = {"making": ToyWorker} if kind == "toy" else {}
    Local(processes=3, **making).run(job, todo(job.plan, read_records(store)), watch)
    finalize(store, full=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

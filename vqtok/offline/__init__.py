"""Datasets of tokens: made once, shard by shard, and read by any trainer.

Words
-----
sample    one picture or clip of the source
view      one crop of it, such as "center" or "hflip"
row       one sample's view with its codes, latents or both; planned rows are samples times views
shard     a range of samples: the unit of work, retry, resume and checksum
record    what says that a shard is done, and what it holds
attempt   0; 1, 2, ... for `retry-failed`, which only does what failed before

What a data set is (a folder or an fsspec URL)
----------------------------------------------
plan.json             what is to be done; written first, never changed
shards/00000.parquet  deterministic bytes; some formats have several files a shard
shards/00000_1.*      the rows that a first retry brought
done/00000.json       the record of shard 0; done/00000_1.json that of its first retry
timings/00000.json    seconds, host and device, for `status`; no part of the data
claims/00000          who works on shard 0 now; gone when it is done
job.json              where source and tokenizer were, for later verbs; no part of the data
manifest.json         when all is done: a function of plan and records alone
README.md             a dataset card; `datasets.load_dataset` reads the folder through it

Data files are written before the record that names them, and no file takes the place of another.
So whatever is killed, stopped or run twice, a shard is done once, and `rows + failed = planned`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtok.offline.api import job_status, retry_failed, tokenize, verify_tokens
    from vqtok.offline.plan import ClipPlan
    from vqtok.offline.read import TokenSet, collate, open_tokens, torch_dataset

__all__ = [
    "ClipPlan",
    "TokenSet",
    "collate",
    "job_status",
    "open_tokens",
    "retry_failed",
    "tokenize",
    "torch_dataset",
    "verify_tokens",
]

_HOMES = {
    "ClipPlan": "vqtok.offline.plan",
    "TokenSet": "vqtok.offline.read",
    "collate": "vqtok.offline.read",
    "job_status": "vqtok.offline.api",
    "open_tokens": "vqtok.offline.read",
    "retry_failed": "vqtok.offline.api",
    "tokenize": "vqtok.offline.api",
    "torch_dataset": "vqtok.offline.read",
    "verify_tokens": "vqtok.offline.api",
}

if not TYPE_CHECKING:  # readers load no torch, and what they don't use

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)

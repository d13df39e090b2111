"""Plans and rows of data sets, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqtok.offline.plan import Plan, SourcePlan, TokenizerPlan, listing_of
from vqtok.offline.rows import Row, Rows

PRINTS = {
    "schema": "vqtok-fp/1",
    "preprocess": "1" * 64,
    "encoder": "2" * 64,
    "codebook": "3" * 64,
    "decoder": "4" * 64,
}
TOKENIZER: dict[str, Any] = {
    "name": "tiny",
    "fingerprint": PRINTS,
    "precision": "ieee32",
    "codebook_size": 64,
    "depth": 0,
    "is_video": False,
    "latent_channels": 4,
}


def plan(
    keys: Sequence[str] = ("a", "b", "c"), tokenizer: dict[str, Any] | None = None, **changes: Any
) -> Plan:
    """A plan of pictures in one view and one shard, unless told otherwise."""
    size = changes.pop("shard_size", len(keys))
    settings: dict[str, Any] = {
        "source": SourcePlan(kind="folder", samples=len(keys), listing=listing_of(keys)),
        "tokenizer": TokenizerPlan(**{**TOKENIZER, **(tokenizer or {})}),
        "preprocess": {"policy": "center", "size": 16, "stride": 4},
        "views": ("center",),
        "view_names": ("center",),
        "dtype": "uint16",
        "batch": 2,
        "shard_size": size,
        "shards": -(-len(keys) // size),
        "label": "int",
    }
    return Plan(**{**settings, **changes})


def row(key: str, of: Plan, seed: int = 0, grid: tuple[int, ...] = (4, 4), **changes: Any) -> Row:
    """A row of random codes, latents or both, as the plan wants it."""
    random = np.random.default_rng([seed, *key.encode()])
    tail = (of.tokenizer.depth,) if of.tokenizer.depth else ()
    top = of.tokenizer.codebook_size
    codes = random.integers(0, top, (*grid, *tail)).astype(of.dtype)
    latents = random.normal(2.0, 3.0, (of.tokenizer.latent_channels, *grid)).astype(np.float16)
    made = Row(
        key=key,
        view=of.view_names[0],
        box=(1, 2, 20, 30),
        flip=bool(seed % 2),
        size=tuple(4 * side for side in grid),
        grid=grid,
        codes=codes if of.with_codes else None,
        latents=latents if of.with_latents else None,
        label=seed if of.label == "int" else None,
    )
    return made._replace(**changes)


def rows(keys: Sequence[str], of: Plan, **changes: Any) -> Rows:
    """One row for each key."""
    return Rows.of([row(key, of, seed, **changes) for seed, key in enumerate(keys)])


def same(one: Row, other: Row) -> bool:
    """Whether two rows are equal, to the bit and the dtype."""
    for name in Row._fields:
        mine, its = getattr(one, name), getattr(other, name)
        if isinstance(mine, np.ndarray):
            if mine.dtype != its.dtype or not np.array_equal(mine, its):
                return False
        elif type(mine) is not type(its) or mine != its:
            return False
    return True

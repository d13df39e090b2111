"""Which rows of a shard a reader wants: all, those of some views, or one view of each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.shelf import Shelf

__all__ = ["RANDOM", "Choice", "choice_of"]

RANDOM = "random"
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """views  names; None for all; ("random",) for one of each sample, by seed, epoch and key."""

    views: tuple[str, ...] | None
    seed: int

    @property
    def is_random(self) -> bool:
        """Whether an epoch has other rows than the next."""
        return self.views == (RANDOM,)

    def count(self, shelf: Shelf, shard: int) -> int:
        """How many rows of a shard are wanted; the same in each epoch."""
        found = shelf.shards[shard]
        if self.views is None:
            return found.rows
        names = shelf.plan.view_names
        if found.whole:
            wanted = 1 if self.is_random else sum(name in self.views for name in names)
            return found.rows // len(names) * wanted
        return len(self.places(shelf, shard, 0))

    def places(self, shelf: Shelf, shard: int, epoch: int) -> Places:
        """Where they are among the shard's rows, sample by sample."""
        found = shelf.shards[shard]
        if self.views is None:
            return np.arange(found.rows)
        if self.is_random:
            return self._one_each(*shelf.heads(shard), epoch)
        if found.whole:
            names = shelf.plan.view_names
            wanted = np.array([name in self.views for name in names])
            return np.flatnonzero(np.tile(wanted, found.rows // len(names)))
        _, views = shelf.heads(shard)
        return np.array([n for n, view in enumerate(views) if view in self.views], np.int64)

    def _one_each(self, keys: Sequence[str], views: Sequence[str], epoch: int) -> Places:
        samples: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            samples.setdefault(key, []).append(place)
        chosen = [places[self._draw(key, epoch) % len(places)] for key, places in samples.items()]
        return np.array(chosen, np.int64)

    def _draw(self, key: str, epoch: int) -> int:
        text = f"{self.seed} {epoch} {key}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def choice_of(plan: Plan, views: str | Sequence[str] | None, seed: int) -> Choice:
    """From what `open_tokens` is given; a `ConfigError` for a view that the set has not."""
    if views is None:
        return Choice(None, seed)
    names = (views,) if isinstance(views, str) else tuple(views)
    if names == (RANDOM,) and isinstance(views, str):
        return Choice(names, seed)
    if not names:
        raise ConfigError("views names at least one view; None stands for all of them")
    for name in names:
        if name not in plan.view_names:
            raise ConfigError(
                f"this data set has no view {name!r}. {did_you_mean(name, plan.view_names)}"
            )
    return Choice(names, seed)

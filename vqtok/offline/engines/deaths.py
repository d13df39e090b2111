"""Workers that died, and over which shards."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from vqtok.errors import LoadError
from vqtok.offline.ledger import News
from vqtok.offline.plan import Plan

__all__ = ["LIVES", "Deaths"]

LIVES = 3  # workers that a shard may cost


class Deaths:
    """Counts them; a shard that has cost too many is lost, and the others are done first."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._deaths = Counter[int | None]()
        self._reasons: dict[int | None, str] = {}

    @property
    def lost(self) -> set[int]:
        """Shards that are not tried again."""
        return {shard for shard, n in self._deaths.items() if shard is not None and n >= LIVES}

    def next_of(self, left: deque[int], news: News) -> int | None:
        """Takes shards out of `left` up to one that is neither lost nor done."""
        while left:
            shard = left.popleft()
            if shard not in self.lost and not news.of(shard):
                return shard
        return None

    def count(self, shard: int | None, reason: str) -> None:
        """A worker died over a shard; or over none, which raises a LoadError the third time."""
        self._deaths[shard] += 1
        self._reasons[shard] = reason
        if self._deaths[None] >= LIVES:
            raise LoadError(f"workers end before they have begun: {self._reasons[None]}")

    def forgive(self, shard: int | None) -> None:
        """What has been counted is no sign of anything: one has begun to work."""
        self._deaths[shard] = 0

    def settle(self, missing: Iterable[int]) -> None:
        """At the end: a LoadError where a lost shard is missing."""
        lost = sorted(self.lost & set(missing))
        if not lost:
            return
        samples = self._plan.range(lost[0])
        more = f" (so have shards {', '.join(map(str, lost[1:]))})" if lost[1:] else ""
        raise LoadError(
            f"shard {lost[0]}, samples {samples.start} to {samples.stop - 1}, has ended its worker "
            f"{LIVES} times{more}; the last time: {self._reasons[lost[0]]}. All other shards are "
            "done; where a file brings decoders down, --decode-in processes lists it"
        )

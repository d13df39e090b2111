"""The rows of a data set by shard and place, read where they are asked for.

It can be pickled and forked: what is open stays behind, and is opened again over there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, NamedTuple

from vqtok.errors import LoadError, MissingExtraError
from vqtok.offline.formats import FORMATS, SHARDS, ShardReader
from vqtok.offline.rows import Row, Rows
from vqtok.offline.store import Store, open_store
from vqtok.sources.shared import Shared

if TYPE_CHECKING:
    from vqtok.offline.manifest import Part
    from vqtok.offline.plan import Plan

__all__ = ["Shard", "Shelf"]

# Bytes of memory: of shards that stay open, where each counts so much at least that files stay
# few; of what they read at once; of blocks of rows, where each row counts so much beside arrays.
OPEN, LEAST = 64 << 20, 1 << 20
GROUPS = 96 << 20
BLOCKS, OTHER = 128 << 20, 1 << 10


class Shard(NamedTuple):
    """A shard and its retries.

    files  names below shards/ of the first attempt, then of each retry
    rows   how many there are in all of these
    whole  whether the first attempt has every row, so that places tell views
    """

    number: int
    files: tuple[tuple[str, ...], ...]
    rows: int
    whole: bool


class Shelf:
    """All shards that are there."""

    def __init__(self, url: str, plan: Plan, parts: Iterable[Part]) -> None:
        self.url = url
        self.plan = plan
        ordered = sorted(parts, key=lambda part: (part.shard, part.attempt))
        self.shards = [
            _shard(number, list(each)) for number, each in groupby(ordered, lambda part: part.shard)
        ]
        # A forked process opens its own: a file that is shared has one position for both.
        self._stores, self._readers = Shared(1), Shared(OPEN)
        self._groups, self._blocks = Shared(GROUPS), Shared(BLOCKS)

    def row(self, shard: int, place: int) -> Row:
        """One row; its block is kept for the next."""
        reader = self._reader(shard)
        block = reader.block(place)
        start, stop = reader.blocks[block], reader.blocks[block + 1]
        rows: Rows = self._blocks.get((shard, block), lambda: _own(reader.rows(start, stop)), _size)
        return rows[place - start]

    def row_bytes(self) -> int:
        """About what a row takes in memory, by the first block there is."""
        shard = next((n for n, shard in enumerate(self.shards) if shard.rows), None)
        if shard is None:
            return OTHER
        rows = self.rows(shard, 0, self._reader(shard).blocks[1])
        return _size(rows) // len(rows)

    def rows(self, shard: int, start: int, stop: int) -> Rows:
        """A range, of which nothing is kept."""
        return self._reader(shard).rows(start, stop)

    def heads(self, shard: int) -> tuple[list[str], list[str]]:
        """Keys and views of all rows."""
        found: tuple[list[str], list[str]] = self._reader(shard).heads()
        return found

    def block(self, shard: int, place: int) -> tuple[int, int]:
        """Where the block of rows with `place` in it begins and ends."""
        reader = self._reader(shard)
        block = reader.block(place)
        return reader.blocks[block], reader.blocks[block + 1]

    def _reader(self, shard: int) -> _Reader:
        reader: _Reader = self._readers.get(
            shard, lambda: self._open(shard), lambda reader: max(reader.nbytes, LEAST)
        )
        return reader

    def _open(self, shard: int) -> _Reader:
        store: Store = self._stores.get("", lambda: open_store(self.url))
        return _Reader(store, self.shards[shard].files, self.plan, self._groups)


class _Reader:
    """A shard and its retries as one."""

    def __init__(
        self, store: Store, files: Sequence[Sequence[str]], plan: Plan, held: Shared
    ) -> None:
        kind = FORMATS[plan.format]
        self._store, self._files = store, files
        self._parts: list[ShardReader] = []
        for names in files:
            with _telling(store, names):
                self._parts.append(kind.read(store, names, plan, held))
        self._starts = [0, *accumulate(len(part) for part in self._parts)]
        pairs = list(zip(self._starts[:-1], self._parts, strict=True))
        inner = [start + block for start, part in pairs for block in part.blocks[:-1]]
        self.blocks = [*inner, self._starts[-1]]
        self.nbytes = sum(part.nbytes for part in self._parts)

    def block(self, place: int) -> int:
        """The number of the block that a row is in."""
        return bisect_right(self.blocks, place) - 1

    def rows(self, start: int, stop: int) -> Rows:
        """Across parts."""
        found = []
        for first, part, names in zip(self._starts[:-1], self._parts, self._files, strict=True):
            if start < first + len(part) and stop > first:
                with _telling(self._store, names):
                    found.append(part.rows(max(start - first, 0), min(stop - first, len(part))))
        return Rows.concat(found)

    def heads(self) -> tuple[list[str], list[str]]:
        """Across parts."""
        found = []
        for part, names in zip(self._parts, self._files, strict=True):
            with _telling(self._store, names):
                found.append(part.heads())
        keys = [key for each, _ in found for key in each]
        return keys, [view for _, each in found for view in each]


@contextmanager
def _telling(store: Store, names: Sequence[str]) -> Iterator[None]:
    """What reading damaged files raises becomes one sentence that names them."""
    try:
        yield
    except (MemoryError, MissingExtraError):
        raise
    except Exception as error:  # libraries raise all kinds of things on bytes that are not theirs
        raise LoadError(_damage(store, names, error)) from error


def _damage(store: Store, names: Sequence[str], error: Exception) -> str:
    paths = {name: f"'{store.url}/{SHARDS}{name}'" for name in names}
    gone = [path for name, path in paths.items() if not store.exists(SHARDS + name)]
    hint = f"`vqtok verify {store.url} --full` lists all files that are not as they were written"
    if gone:
        return f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not there; {hint}"
    reason = " ".join((str(error) or type(error).__name__).split())
    return f"{' with '.join(paths.values())} cannot be read: {reason}; {hint}"


def _own(rows: Rows) -> Rows:
    """With arrays that keep nothing larger in memory."""
    return rows.take(range(len(rows)))


def _size(rows: Rows) -> int:
    arrays = [array for each in (rows.codes, rows.latents) if each is not None for array in each]
    return sum(array.nbytes for array in arrays) + OTHER * len(rows)


def _shard(number: int, parts: Sequence[Part]) -> Shard:
    return Shard(
        number=number,
        files=tuple(tuple(file.name for file in part.files) for part in parts),
        rows=sum(part.rows for part in parts),
        whole=len(parts) == 1 and parts[0].failed == 0,
    )

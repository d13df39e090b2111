"""What the formats share that keep the rows of a shard in a table beside its arrays."""

from __future__ import annotations

from collections.abc import Sequence

from vqtok.offline.formats import Files, blocks_of, only
from vqtok.offline.formats.parquet import open_parquet

__all__ = ["INDEX", "IndexedReader"]

INDEX = ".rows.parquet"
# Rows whose table is turned into Python at once: few, for those who read here and there.
BLOCK = 16


class IndexedReader:
    """The table of one shard, which is read at once."""

    def __init__(self, store: Files, names: Sequence[str]) -> None:
        self._table = open_parquet(store, only(names, INDEX)).read(use_threads=False)
        self.blocks = blocks_of(len(self._table), BLOCK)

    def __len__(self) -> int:
        return len(self._table)

    def heads(self) -> tuple[list[str], list[str]]:
        """See `ShardReader`."""
        return self._table["key"].to_pylist(), self._table["view"].to_pylist()

"""Pictures as files in folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import PICTURES, Tree, check_unique, ends_with
from vqtok.sources.metadata import described

__all__ = ["Folder", "label_of"]


@SOURCES.register("folder")
class Folder:
    """Every picture below each path; its name below that path is its key.

    Columns are those of a metadata.jsonl or metadata.csv, and `label`, the name of the folder that
    the picture lies in, where that is not the path itself.
    """

    suffixes: ClassVar[tuple[str, ...]] = PICTURES
    is_video = False

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._roots = [tree.root for tree in trees]
        self._root_of: list[int] = []
        self._columns: dict[str, dict[str, Any]] = {}
        self.keys: list[str] = []
        for number, tree in enumerate(trees):
            # A .gif is a picture where it was asked for.
            names = [name for name in tree.names if ends_with(name, (*PICTURES, ".gif"))]
            self.keys += names
            self._root_of += [number] * len(names)
            self._columns.update(described(tree, names))
        check_unique(self.keys, lambda index: f"'{self._path(index)}'")

    def _path(self, index: int) -> Any:
        return self._roots[self._root_of[index]] / self.keys[index]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is a path."""
        key = self.keys[index]
        return Sample(key, self._path(index), label_of(key) | self._columns.get(key, {}))


def label_of(name: str) -> dict[str, Any]:
    """The column `label` of a file: the folder it lies in, if there is one."""
    folder = name.rpartition("/")[0].rpartition("/")[2]
    return {"label": folder} if folder else {}

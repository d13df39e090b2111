"""Pictures as files in folders."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from vqtok.pictures import PICTURES
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import Tree, check_unique, ends_with, keys_of
from vqtok.sources.metadata import described
from vqtok.sources.remote import Place, contents

__all__ = ["Folder", "label_of"]


@SOURCES.register("folder")
class Folder:
    """Every picture below each path; its name below that path is its key.

    Columns are those of a metadata.jsonl or metadata.csv, and `label`, the name of the folder that
    the picture lies in, where that is not the path itself.
    """

    suffixes: ClassVar[tuple[str, ...]] = PICTURES
    is_video = False
    labels_by_folder = True

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees = [tree._replace(names=[]) for tree in trees]
        self._starts = [0]  # the number of each tree's first sample
        self._columns: dict[str, dict[str, Any]] = {}
        self._names: list[str] = []
        for tree in trees:
            # A .gif is a picture where it was asked for.
            names = [name for name in tree.names if ends_with(name, (*PICTURES, ".gif"))]
            self._names += names
            self._starts.append(len(self._names))
            self._columns.update(described(tree, names))
        self.keys = keys_of(self._names)
        check_unique(self.keys, lambda index: f"'{self._path(index)}'")

    def _path(self, index: int) -> Place:
        return self._trees[bisect_right(self._starts, index) - 1].at(self._names[index])

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is a path; of a URL, the bytes of the file."""
        index = range(len(self))[index]
        key, name = self.keys[index], self._names[index]
        columns = label_of(key) | self._columns.get(name, {})
        return Sample(key, contents(self._path(index)), columns)

    def labels(self) -> Iterator[Any]:
        """The label of each sample, None where it has none."""
        for key, name in zip(self.keys, self._names, strict=True):
            yield (label_of(key) | self._columns.get(name, {})).get("label")


def label_of(name: str) -> dict[str, Any]:
    """The column `label` of a file: the folder it lies in, if there is one."""
    folder = name.rpartition("/")[0].rpartition("/")[2]
    return {"label": folder} if folder else {}

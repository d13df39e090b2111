"""Lists: tables of text each of whose rows names a picture or a clip."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from vqtok.errors import LoadError
from vqtok.pictures import VIDEOS
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import Ranges, Tree, check_unique, ends_with
from vqtok.sources.metadata import FILES as METADATA
from vqtok.sources.remote import Place, Remote, contents, is_url, place
from vqtok.sources.rows import LABEL, Row, all_whole, read_row, rows, with_number
from vqtok.videos import Video, need_av

__all__ = ["Lists"]

NAMED = ("path", "file_name", "image", "video", "url")
KEY = "key"


@SOURCES.register("lists")
class Lists:
    """The rows of .jsonl, .csv and .tsv files, in order.

    The first of the columns path, file_name, image, video and url that a list has names a picture
    or a video, by a path relative to the list, an absolute one (of a list at a URL, one on the
    same host) or a URL. All of one set are
    videos, by their endings or because the column is `video`, or none is. The key is the column
    `key`, or without one the path as it is written; all other columns are carried along. Those of
    a .csv or .tsv hold text, but `label` holds whole numbers where every cell of a list is one; an
    empty cell is no column of its row. Rows are read again when they are asked for: memory holds
    their keys and places alone, but lists that were named by URL as they are.

    In a folder, metadata.jsonl and metadata.csv are no lists.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".csv", ".tsv")

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._paths: list[Place] = []
        for tree in trees:
            names = [name for name in tree.names if ends_with(name, self.suffixes)]
            self._paths += [tree.at(name) for name in names if tree.is_file or not _is_about(name)]
        self._ranges = Ranges(self._paths)
        self._whole = {n: p.read() for n, p in enumerate(self._paths) if isinstance(p, Remote)}
        self._names: list[list[str]] = []  # of columns, of each list
        self._numbered: list[bool] = []  # whether the labels of each list become whole numbers
        self.keys: list[str] = []
        self.is_video = False
        self._read()
        check_unique(self.keys, lambda index: f"in '{self._paths[self._file(index)]}'")
        if self.is_video:
            need_av(f"{self.keys[0]!r}")

    def _read(self) -> None:
        """All lists once, for keys and places."""
        places, counts = array("q"), [0]
        for file, path in enumerate(self._paths):
            self._names.append([])
            self._numbered.append(False)
            labels = set[str | None]()  # of a table
            for row in self._rows(file):
                self._names[file] = self._names[file] or row.names
                key, is_video = _looked_at(row, self._names[file], path)
                if self.keys and is_video != self.is_video:
                    raise LoadError(
                        f"row {row.number} of '{path}' names a {_what(is_video)}, {key!r}, and "
                        f"those before it {_what(self.is_video)}s; make a list of each"
                    )
                self.is_video = is_video
                self.keys.append(key)
                places.extend((row.start, row.end))
                if not _is_json(path):
                    labels.add(row.values.get(LABEL))
            self._numbered[file] = not _is_json(path) and all_whole(labels)
            counts.append(len(self.keys))
        self._places = np.frombuffer(places, np.int64).reshape(-1, 2)
        self._starts = np.array(counts)

    def _rows(self, file: int) -> Iterator[Row]:
        path, whole = self._paths[file], self._whole.get(file)
        with path.open("rb") if whole is None else io.BytesIO(whole) as lines:
            yield from rows(lines, path.name, path)

    def __len__(self) -> int:
        return len(self.keys)

    def _file(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, "right")) - 1

    def __getitem__(self, index: int) -> Sample:
        """The data is a path, the bytes of a picture file that a URL names, or a `Video`."""
        index = range(len(self))[index]
        file, key = self._file(index), self.keys[index]
        path = self._paths[file]
        values = self._row(file, *self._places[index].tolist())
        column = _column(self._names[file], path)
        named = values.pop(column, None)
        if values.pop(KEY, named) != key or not isinstance(named, str):
            raise LoadError(f"'{path}' has changed since it was opened")
        where = place(named) if is_url(named) else path.parent / named
        return Sample(key, Video(where) if self.is_video else contents(where), values)

    def labels(self) -> Iterator[Any]:
        """The label of each sample, None where it has none."""
        for file, is_number in enumerate(self._numbered):
            for row in self._rows(file):
                yield (with_number(row.values) if is_number else row.values).get(LABEL)

    def _row(self, file: int, start: int, end: int) -> dict[str, Any]:
        whole, path = self._whole.get(file), self._paths[file]
        found = self._ranges.read(file, start, end - start) if whole is None else whole[start:end]
        try:
            values = read_row(found, path.name, self._names[file])
            return with_number(values) if self._numbered[file] else values
        except ValueError:
            raise LoadError(f"'{path}' has changed since it was opened") from None


def _is_json(path: Place) -> bool:
    """Whether values have types of their own."""
    return path.name.lower().endswith(".jsonl")


def _is_about(name: str) -> bool:
    """Whether a file holds columns of others."""
    return name.rpartition("/")[2] in METADATA


def _what(is_video: bool) -> str:
    return "video" if is_video else "picture"


def _column(names: Sequence[str], path: Place) -> str:
    """The one that names a file."""
    found = next((each for each in NAMED if each in names), None)
    if found is None:
        raise LoadError(
            f"'{path}' has the columns {', '.join(names)}, of which none names a file; that is "
            f"one of {', '.join(NAMED)}"
        )
    return found


def _looked_at(row: Row, names: Sequence[str], path: Place) -> tuple[str, bool]:
    """(key, whether it is a video) of a row."""
    column = _column(names, path)
    named = row.values.get(column)
    key = row.values.get(KEY, named)
    for value, of in ((named, column), (key, KEY)):
        if not isinstance(value, str) or not value:
            raise LoadError(f"row {row.number} of '{path}' has the {of} {value!r}; it is text")
    if isinstance(path, Remote) and str(named).lower().startswith("file://"):
        raise LoadError(
            f"row {row.number} of '{path}' names {named!r}, a file of whatever machine reads it; a "
            "list at a URL names URLs, or paths on its own host"
        )
    try:
        str(key).encode()
    except UnicodeEncodeError:
        raise LoadError(
            f"row {row.number} of '{path}' has the key {key!r}, which is no Unicode"
        ) from None
    return str(key), column == "video" or (column != "image" and ends_with(str(named), VIDEOS))

"""WebDataset tars: files of one name but for what follows its first dot are one sample."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from vqtok.errors import LoadError
from vqtok.pictures import PICTURES
from vqtok.sources import SOURCES, Sample
from vqtok.sources.files import Ranges, Tree, each_of, ends_with, threads_for
from vqtok.sources.members import members
from vqtok.sources.remote import Place

__all__ = ["Tars"]

# Everything up to the first dot of the file's own name, and what follows that dot.
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
Span = tuple[int, int]  # offset, size
GAP = 4096  # bytes between two files of a sample; headers with long names take so many


@SOURCES.register("tars")
class Tars:
    """The samples of all tars, which are listed once and then read by place.

    The file that ends in a picture's suffix is the data. `cls` becomes the column `label`, a whole
    number; `txt` becomes `text`; `json` becomes `json`, parsed; any other file is a column of bytes
    under what follows the first dot of its name. Two samples with one key are an error, also in
    two tars, and so are two pictures in one sample. Those without a picture are left out with a
    warning. Compressed tars have no places to go to and are refused.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz")
    is_video = False

    def __init__(self, trees: Sequence[Tree]) -> None:
        paths = [
            tree.at(name) for tree in trees for name in tree.names if ends_with(name, self.suffixes)
        ]
        self._ranges = Ranges(paths)
        self._fields: list[str] = []
        self._read_listings(paths)

    def _read_listings(self, paths: Sequence[Place]) -> None:
        """Into arrays: millions of small objects would be copied into each worker."""
        numbers: dict[str, int] = {}  # of fields
        first_in: dict[str, int] = {}  # the tar that a key is in
        tables, counts, lacking = [np.zeros((0, 4), np.int64)], [0], list[str]()
        listings = each_of(_samples, paths, threads_for(paths))
        for tar, (path, samples) in enumerate(zip(paths, listings, strict=True)):
            rows = []
            for key, fields in samples.items():
                if not _has_picture(key, fields, path):
                    lacking.append(f"{key!r} in '{path}'")
                    continue
                if first_in.setdefault(key, tar) != tar:
                    raise LoadError(_twice(key, paths[first_in[key]], path))
                for field, place in fields.items():
                    rows.append((numbers.setdefault(field, len(numbers)), tar, *place))
                counts.append(len(fields))
            tables.append(np.array(rows, np.int64).reshape(-1, 4))
        if lacking:
            _warn(lacking)
        self.keys, self._fields = list(first_in), list(numbers)
        self._members, self._starts = np.concatenate(tables), np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is the bytes of a picture file."""
        index = range(len(self))[index]
        key, data, columns = self.keys[index], b"", dict[str, Any]()
        rows = self._members[self._starts[index] : self._starts[index + 1]].tolist()
        for field, found in self._read(rows):
            name = self._fields[field]
            if _is_picture(name):
                data = found
            else:
                columns |= _column(key, name, found)
        return Sample(key, data, columns)

    def _read(self, rows: list[list[int]]) -> list[tuple[int, bytes]]:
        """(field, bytes) of files (field, tar, offset, size); at once, where they lie together."""
        tar, first = rows[0][1], min(row[2] for row in rows)
        end = max(offset + size for _, _, offset, size in rows)
        if end - first > sum(size for *_, size in rows) + GAP * len(rows):
            return [(field, self._ranges.read(*where)) for field, *where in rows]
        found = self._ranges.read(tar, first, end - first)
        return [(field, found[at - first : at - first + size]) for field, _, at, size in rows]


def _is_picture(field: str) -> bool:
    return ends_with(f".{field}", PICTURES)


def _column(key: str, field: str, found: bytes) -> dict[str, Any]:
    """The column that a file makes."""
    try:
        match field:
            case "cls":
                return {"label": int(found)}
            case "txt":
                return {"text": found.decode("utf-8")}
            case "json":
                return {"json": json.loads(found)}
    except ValueError as error:
        raise LoadError(f"the {field} file of the sample {key!r} cannot be read: {error}") from None
    return {field: found}


def _samples(path: Place) -> dict[str, dict[str, Span]]:
    """Key -> what follows the first dot -> the place of that file."""
    samples: dict[str, dict[str, Span]] = {}
    if ends_with(path.name, Tars.suffixes[1:]):
        raise LoadError(f"'{path}' cannot be read as a tar: it is compressed; unpack it first")
    for name, offset, size in members(path):
        match = MEMBER.fullmatch(name)
        if match is None:
            continue
        key, field = match[1], match[2].lower()
        if field in samples.setdefault(key, {}):
            raise LoadError(_twice(key, path, path))
        samples[key][field] = offset, size
    return samples


def _twice(key: str, first: Place, second: Place) -> str:
    where = f"in '{first}' and in '{second}'" if first != second else f"twice in '{first}'"
    return f"the sample {key!r} is {where}; a key names one sample"


def _has_picture(key: str, fields: dict[str, Span], path: Place) -> bool:
    """Whether a sample is one; none may have two."""
    pictures = [field for field in fields if _is_picture(field)]
    if len(pictures) > 1:
        raise LoadError(
            f"the sample {key!r} in '{path}' has {len(pictures)} pictures: {', '.join(pictures)}; "
            "a name is cut at its first dot, and what stands before it is one sample"
        )
    return bool(pictures)


def _warn(lacking: Sequence[str]) -> None:
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    warnings.warn(f"the sample {lacking[0]}{more} has no picture and is left out", stacklevel=2)

"""Rows of .jsonl, .csv and .tsv files, with the places of their bytes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from vqtok.errors import LoadError, VqtokError

__all__ = ["LABEL", "Row", "all_whole", "read_row", "rows", "with_number"]

BOM = b"\xef\xbb\xbf"
LABEL = "label"
# As Python writes it, and of 64 bits at the most.
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")


class Row(NamedTuple):
    """One row.

    number  from 1
    start   where its bytes begin
    end     where they end
    names   of the columns: of a table all that its first line has
    values  by the names of their columns; an empty cell of a table is no value
    """

    number: int
    start: int
    end: int
    names: list[str]
    values: dict[str, Any]


def rows(file: IO[bytes], name: str, path: object) -> Iterator[Row]:
    """All rows of a file that is open at its start; its name tells the format.

    path  what errors call it
    """
    lines = _Lines(file)
    found = _of_json(lines) if name.lower().endswith(".jsonl") else _of_fields(lines, name)
    number = 0
    try:
        for number, row in enumerate(found, 1):
            yield row._replace(number=number)
    except VqtokError:
        raise
    except (ValueError, csv.Error) as error:
        raise LoadError(f"row {number + 1} of '{path}' cannot be read: {error}") from error


def read_row(found: bytes, name: str, names: list[str]) -> dict[str, Any]:
    """A row again, out of its bytes; `names` are those of the columns, which a .jsonl repeats."""
    if name.lower().endswith(".jsonl"):
        values: dict[str, Any] = json.loads(found)
        return values
    fields = next(_reader(iter(io.StringIO(found.decode(), newline="")), name))
    return _cells(names, fields)


def all_whole(labels: Iterable[Any]) -> bool:
    """Whether all cells of a table's column `label` are whole numbers, so that they are read so.

    As text, class 10 would stand before class 2.
    """
    return all(label is None or WHOLE.fullmatch(label) for label in labels)


def with_number(values: dict[str, Any]) -> dict[str, Any]:
    """A row of a table whose labels are whole numbers."""
    label = values.get(LABEL)
    return values if label is None else values | {LABEL: int(label)}


class _Lines:
    """The lines of a file as text, and how many bytes were read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.at = file, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            marked = self.at == 0 and line.startswith(BOM)
            self.at += len(line)
            yield line[len(BOM) if marked else 0 :].decode()


def _of_json(lines: _Lines) -> Iterator[Row]:
    start = 0
    for line in lines:
        if line.strip():
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError(f"it is no object with columns but {line.strip()[:40]}")
            yield Row(0, start, lines.at, list(values), values)
        start = lines.at


def _of_fields(lines: _Lines, name: str) -> Iterator[Row]:
    reader = _reader(iter(lines), name)
    names: list[str] = next(reader, [])
    if len(set(names)) < len(names):
        raise ValueError(f"the first line names a column twice: {', '.join(names)}")
    start = lines.at
    for fields in reader:
        if fields:
            if len(fields) != len(names):
                raise ValueError(f"it has {len(fields)} columns, the first line {len(names)}")
            yield Row(0, start, lines.at, names, _cells(names, fields))
        start = lines.at


def _cells(names: list[str], fields: list[str]) -> dict[str, Any]:
    return {name: field for name, field in zip(names, fields, strict=True) if field}


def _reader(lines: Iterator[str], name: str) -> Any:
    """Of a .tsv, quotes are characters like others, for that is how captions stand there."""
    if name.lower().endswith(".tsv"):
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(lines, strict=True)

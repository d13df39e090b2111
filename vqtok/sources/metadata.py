"""Columns that stand in a metadata.jsonl or metadata.csv beside the files they are about."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from vqtok.errors import LoadError
from vqtok.sources.files import Tree

__all__ = ["described"]

FILES = ("metadata.jsonl", "metadata.csv")
NAME = "file_name"  # relative to the folder of the metadata file


def described(tree: Tree, samples: Collection[str]) -> dict[str, dict[str, Any]]:
    """Name of a sample -> its columns, from every such file of a tree.

    Values of a csv file are text. A row about a file that is no sample is an error, and so are
    two rows about one.
    """
    known, found = set(samples), dict[str, dict[str, Any]]()
    for file in (name for name in tree.names if name.rpartition("/")[2] in FILES):
        folder = file.rpartition("/")[0]
        for row in _rows(tree.root / file):
            name = "/".join(filter(None, (folder, str(row.pop(NAME)))))
            if name not in known:
                raise LoadError(f"'{tree.root / file}' describes '{name}', which is not there")
            if name in found:
                raise LoadError(f"'{tree.root / file}' describes '{name}' for a second time")
            found[name] = row
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, each with a name in it."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file) if path.suffix == ".csv" else _objects(file)
        try:
            for number, row in enumerate(lines, 1):
                if not isinstance(row, dict) or not row.get(NAME):
                    raise LoadError(f"row {number} of '{path}' has no column {NAME!r}")
                yield row
        except (ValueError, csv.Error) as error:
            raise LoadError(f"'{path}' cannot be read: {error}") from error


def _objects(lines: Any) -> Iterator[Any]:
    return (json.loads(line) for line in lines if line.strip())

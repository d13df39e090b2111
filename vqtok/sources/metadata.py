"""Columns that stand in a metadata.jsonl or metadata.csv beside the files they are about."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vqtok.errors import LoadError
from vqtok.sources.files import Tree
from vqtok.sources.remote import Place
from vqtok.sources.rows import LABEL, Row, all_whole, rows, with_number

__all__ = ["described"]

FILES = ("metadata.jsonl", "metadata.csv")
NAME = "file_name"  # relative to the folder of the metadata file


def described(tree: Tree, samples: Collection[str]) -> dict[str, dict[str, Any]]:
    """Name of a sample -> its columns, from every such file of a tree.

    Values of a csv file are text, but for labels that are whole numbers in every row. A row about
    a file that is no sample is an error, and so are two rows about one.
    """
    known, found = set(samples), dict[str, dict[str, Any]]()
    for file in (name for name in tree.names if name.rpartition("/")[2] in FILES):
        folder, path = file.rpartition("/")[0], tree.at(file)
        for named, values in _rows(path):
            name = f"{folder}/{named}" if folder else named
            if name not in known:
                raise LoadError(f"'{path}' describes '{name}', which is not there")
            if name in found:
                raise LoadError(f"'{path}' describes '{name}' for a second time")
            found[name] = values
    return found


def _rows(path: Place) -> list[tuple[str, dict[str, Any]]]:
    """(name, columns) of each row of a file."""
    with path.open("rb") as lines:
        found = [(_named(row, path), row.values) for row in rows(lines, path.name, path)]
    if path.name.endswith(".csv") and all_whole(values.get(LABEL) for _, values in found):
        return [(name, with_number(values)) for name, values in found]
    return found


def _named(row: Row, path: Place) -> str:
    """The file that a row is about, which is taken out of it."""
    name = row.values.pop(NAME, None)
    if name is None or name == "":
        raise LoadError(f"row {row.number} of '{path}' has no column {NAME!r}")
    if not isinstance(name, str):
        raise LoadError(f"row {row.number} of '{path}' has the {NAME} {name!r}; it is text")
    return name

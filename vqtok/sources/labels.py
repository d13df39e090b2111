"""What is worth saying of labels that are text: how many classes, and whether folders are ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from vqtok.sources import Source
from vqtok.sources.folder import label_of

__all__ = ["classes_of", "doubts", "told"]

SHOWN = 5


def classes_of(source: Source) -> Counter[str]:
    """How many samples each label has that is text; empty where the source cannot tell cheaply."""
    return Counter(label for label in _labels(source) if isinstance(label, str))


def told(classes: Counter[str]) -> str:
    """2 classes: 'cat' (5), 'dog' (3)"""
    number = "1 class" if len(classes) == 1 else f"{len(classes):,} classes"
    shown = ", ".join(f"{name!r} ({classes[name]:,})" for name in sorted(classes)[:SHOWN])
    return f"{number}: {shown}{', ...' if len(classes) > SHOWN else ''}"


def doubts(source: Source) -> list[str]:
    """Sentences on folders that may not be the classes that somebody means."""
    if not getattr(source, "labels_by_folder", False):
        return []
    depths: dict[int, str] = {}
    above: dict[str, dict[str, None]] = {}  # label -> the folders that folders of its name are in
    for key, label in zip(source.keys, _labels(source), strict=True):
        folder = key.rpartition("/")[0]
        if label == label_of(key).get("label"):
            depths.setdefault(key.count("/"), key)
            if label is not None:
                above.setdefault(label, {})[folder.rpartition("/")[0]] = None
    return [*_of_depths(depths), *_of_parents(above)] if above else []


def _labels(source: Source) -> Iterator[Any]:
    labels = getattr(source, "labels", None)
    return iter(()) if labels is None else labels()


def _of_depths(depths: dict[int, str]) -> Iterator[str]:
    if len(depths) > 1:
        least, most = depths[min(depths)], depths[max(depths)]
        yield (
            f"samples lie at several depths, such as {least!r} and {most!r}; the label of each is "
            "the name of the folder that it lies in itself"
        )


def _of_parents(above: dict[str, dict[str, None]]) -> Iterator[str]:
    several = [label for label in above if len(above[label]) > 1]
    if several:
        label = several[0]
        one, other = (f"{folder}/{label}" if folder else label for folder in list(above[label])[:2])
        more = f"; so it is with {len(several):,} labels in all" if len(several) > 1 else ""
        yield (
            f"the label {label!r} is the name of {len(above[label]):,} folders, such as {one!r} "
            f"and {other!r}, whose samples become one class{more}"
        )

"""What rows are like, seen in one pass before a byte is written, and refusals that follow from it.

Trainers read shapes, dtypes and class numbers out of nothing but their own settings: what does not
fit them has to be found here.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, InputError, LoadError
from vqtok.offline.exports import Tokens
from vqtok.offline.exports.outputs import grouped
from vqtok.offline.records import class_order
from vqtok.offline.rows import Row
from vqtok.offline.stored import canonical

__all__ = [
    "CLASSES",
    "Classes",
    "Survey",
    "by_sample",
    "check_flat",
    "check_pictures",
    "classes_if_any",
    "classes_of",
    "codes_of",
    "latents_of",
    "one_shape",
    "survey",
    "views_of",
]

CLASSES = "classes.json"
Shape = tuple[int, ...]


@dataclass
class Survey:
    """Each thing with the key of a row that has it first.

    codes, latents  shapes of arrays, in the order in which they came; {} where rows have none
    sizes           pixels
    scaled          a row whose codes are of several scales
    labels          all of them
    unlabelled      a row without a label
    captioned       a row with a text
    views           how often each comes
    """

    codes: dict[Shape, str] = field(default_factory=dict)
    latents: dict[Shape, str] = field(default_factory=dict)
    sizes: dict[Shape, str] = field(default_factory=dict)
    scaled: str | None = None
    labels: set[int | str] = field(default_factory=set)
    unlabelled: str | None = None
    captioned: str | None = None
    views: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Counts a row."""
        if row.codes is not None:
            self.codes.setdefault(row.codes.shape, row.key)
        if row.latents is not None:
            self.latents.setdefault(latents_of(row).shape, row.key)
        self.sizes.setdefault(tuple(row.size), row.key)
        self.views[row.view] += 1
        if row.scales and self.scaled is None:
            self.scaled = row.key
        if row.label is not None:
            self.labels.add(row.label)
        elif self.unlabelled is None:
            self.unlabelled = row.key
        if row.text is not None and self.captioned is None:
            self.captioned = row.key


def views_of(tokens: Tokens, found: Survey) -> tuple[str, ...]:
    """Those that rows have, in the order of the plan; a set may be opened with some of them."""
    return tuple(name for name in tokens.plan.view_names if name in found.views)


def survey(tokens: Tokens) -> Survey:
    """One pass over all rows."""
    found = Survey()
    for row in tokens:
        found.add(row)
    return found


def codes_of(row: Row) -> npt.NDArray[Any]:
    """A row's codes, which it has to have."""
    if row.codes is None:
        raise InputError(f"there are no codes of {row.key!r}, and of others there are")
    return row.codes


def latents_of(row: Row) -> npt.NDArray[np.float16]:
    """A row's latents, which it has to have."""
    if row.latents is None:
        raise InputError(f"there are no latents of {row.key!r}, and of others there are")
    if row.latents.dtype != np.float16:
        raise InputError(
            "exports are of latents as they are stored, in float16; these are "
            f"{row.latents.dtype}: open the data set without as_latents"
        )
    return row.latents


# --- shapes -------------------------------------------------------------------------------------


def one_shape(shapes: dict[Shape, str], name: str, instead: str) -> Shape:
    """The shape that all arrays have; `instead` names exports that take several."""
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise InputError(
            f"the {name} export has one grid for all rows, and {first!r} has {_by(one)}, "
            f"{second!r} {_by(other)}; tokenize in one size, or export to {instead}"
        )
    return next(iter(shapes))


def check_flat(tokens: Tokens, found: Survey, name: str) -> None:
    """Refuses tokens that are more than one code of one grid."""
    depth = tokens.plan.tokenizer.depth
    if depth:
        raise InputError(
            f"the {name} export has one code a token, and this tokenizer gives {depth}; export to "
            "mds or webdataset"
        )
    if found.scaled is not None:
        raise InputError(
            f"the {name} export has one grid a row, and the codes of {found.scaled!r} are of "
            "several scales; export to mds or webdataset"
        )


def check_pictures(tokens: Tokens, name: str, instead: str) -> None:
    """Refuses clips; `instead` names exports that take them."""
    if tokens.plan.tokenizer.is_video:
        raise InputError(
            f"the {name} export is for a trainer of pictures, and this data set holds clips; "
            f"export to {instead}"
        )


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))


# --- labels -------------------------------------------------------------------------------------


class Classes:
    """Labels as class numbers.

    numbers  of the classes, by name; None where labels are numbers already
    """

    def __init__(self, numbers: Mapping[str, int] | None) -> None:
        self.numbers = numbers

    def __getitem__(self, label: int | str | None) -> int:
        return label if self.numbers is None else self.numbers[label]  # type: ignore[return-value,index]

    def write(self, folder: Path) -> None:
        """classes.json, {name: number}, where classes have names."""
        if self.numbers is not None:
            (folder / CLASSES).write_bytes(canonical(dict(self.numbers)))


def classes_of(
    found: Survey, name: str, given: str | os.PathLike[str] | None, instead: str
) -> Classes:
    """The number of each label: itself, or its place among the names in `class_order`.

    given    the classes.json of another export, whose numbers these are to be
    instead  exports that need no labels
    """
    if not found.labels:
        raise InputError(
            f"the {name} export is for a trainer of classes, and this data set has no labels; "
            f"export to {instead}"
        )
    lowest = min((label for label in found.labels if isinstance(label, int)), default=0)
    if lowest < 0:
        raise InputError(f"the {name} export counts classes from 0, and there is a label {lowest}")
    return _classes(found, name, given)


def classes_if_any(
    found: Survey, name: str, given: str | os.PathLike[str] | None
) -> Classes | None:
    """As `classes_of`, but None of a set without labels."""
    return _classes(found, name, given) if found.labels else None


def _classes(found: Survey, name: str, given: str | os.PathLike[str] | None) -> Classes:
    if found.unlabelled is not None:
        raise InputError(
            f"the {name} export has labels for all rows or for none, and {found.unlabelled!r} has "
            "none where others have one"
        )
    names = class_order(label for label in found.labels if isinstance(label, str))
    if names:
        given_numbers = None if given is None else _given(names, Path(given))
        return Classes(given_numbers or {name: number for number, name in enumerate(names)})
    if given is not None:
        raise ConfigError("labels are numbers in this data set, so they take no classes")
    return Classes(None)


def _given(names: list[str], file: Path) -> dict[str, int]:
    try:
        known = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise LoadError(f"{file} is no {CLASSES}: {error}") from error
    if not isinstance(known, dict) or not all(type(n) is int and n >= 0 for n in known.values()):
        raise LoadError(f"{file} is no {CLASSES}: that has a number from 0 up for each name")
    twice = next((n for n, often in Counter(known.values()).items() if often > 1), None)
    if twice is not None:
        raise LoadError(f"{file} is no {CLASSES}: two names in it have the number {twice}")
    for each in names:
        if each not in known:
            raise InputError(f"there is a label {each!r} that {file} does not have")
    return known


# --- samples ------------------------------------------------------------------------------------


def by_sample(rows: Iterator[Row], views: Sequence[str]) -> Iterator[list[Row]]:
    """The rows of each sample together: they follow each other, and a sample has all or none."""
    for sample in grouped(rows, len(views)):
        key = sample[0].key
        if [(row.key, row.view) for row in sample] != [(key, view) for view in views]:
            raise InputError(
                f"the rows of {key!r} are not {', '.join(views)} one after the other; "
                "`vqtok verify` looks for what is wrong with this data set"
            )
        yield sample

"""Pictures and clips with keys, by number: what training, evaluation and jobs read from.

A source says how many samples it has and gives the n-th. It holds no open file: handles are
opened in the process and thread that reads, so a source can be pickled into workers, forked or
spawned. Its order is a function of names alone, never of what a file system lists first.

How to add a source
-------------------
One new file here, with one class, registered under the kind's name:

    @SOURCES.register("kind")
    class Kind:
        suffixes: ClassVar[tuple[str, ...]] = (".ending",)   # by these `open_source` guesses it
        def __init__(self, trees: Sequence[Tree]) -> None: ...

It is given the files below each path (`vqtok.sources.files.Tree`), takes those with its suffixes,
and offers what `Source` has; `check_unique` sees to the keys. Where a file is, `Tree.at` tells: a
`Path`, or of a URL a `vqtok.sources.remote.Remote`, which opens in the same way. A constructor
raises a LoadError that names the file; a source without samples is refused by `open_source`. Where
labels can be text, `labels()` gives them all without reading pictures (`vqtok.sources.labels`), and
`labels_by_folder = True` says that they are names of folders where nothing else is said. What
only one sample suffers from is raised by `__getitem__`, or later by what it handed out, as an
ImageError or LoadError: training and jobs list such a sample and go on. Packages that not everybody
needs are imported with `vqtok.extras.require`. tests/sources/test_sources.py and test_remote.py run
every registered kind.
"""

from __future__ import annotations

import glob
import hashlib
import heapq
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, LoadError
from vqtok.registry import Registry
from vqtok.sources.files import Tree, ends_with, tree
from vqtok.sources.remote import Place, Remote, place

__all__ = ["SOURCES", "Clip", "Kind", "Paths", "Sample", "Source", "held_out", "open_source"]

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Sample(NamedTuple):
    """One picture or clip.

    key      names it in its source, and is the same on every machine
    data     what `vqtok.preprocess.load_image` takes, or a `Clip`
    columns  what else is known: label, text, any column of a table
    """

    key: str
    data: Any
    columns: dict[str, Any]


class Clip(Protocol):
    """A run of frames that are read when they are asked for."""

    @property
    def length(self) -> int:
        """How many frames there are."""
        ...

    def frames(self, start: int, count: int, stride: int = 1) -> npt.NDArray[np.uint8]:
        """Frames start, start + stride, ... -> (count, H, W, 3)."""
        ...


class Source(Protocol):
    """Samples by number."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys of all samples, in order, no two alike."""
        ...

    @property
    def is_video(self) -> bool:
        """Whether samples hold clips."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Kind(Source, Protocol):
    """What a class in `SOURCES` is."""

    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, trees: Sequence[Tree]) -> None: ...


SOURCES: Registry[type[Kind]] = Registry("kind of source", __name__)


def open_source(path: Paths, kind: str | None = None) -> Source:
    """The samples below a path, a pattern such as `train-*.tar`, a URL, or several of these.

    path  URLs, such as s3://bucket/folder, gs://, hf:// or https://, are read through fsspec and
          the package that it names for each, with the settings that it finds (`Remote`)
    kind  a name of `SOURCES`; without it, the names of the files tell. Folders of pictures are
          taken for pictures, also where each holds the frames of a clip: say kind="clips" there.
          A list beside other files is passed over: name it, or say kind="lists".
    """
    trees = [tree(root) for root in _existing(path)]
    kind = _guess(trees) if kind is None else kind
    found = SOURCES[kind](trees)
    if not len(found):
        raise LoadError(f"there is no sample of kind {kind!r} in {_names(trees)}")
    return found


def held_out(
    keys: Sequence[str], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(indices to train on, indices of the `count` keys with the smallest sha256), both rising.

    A key's place depends on nothing but itself, so a sample that is added moves at most one other.
    """
    if count and count >= len(keys):
        raise ConfigError(
            f"{count} of {len(keys)} samples are to be held out, which leaves none to train on"
        )
    smallest = heapq.nsmallest(count, range(len(keys)), key=lambda index: _digest(keys[index]))
    held = np.zeros(len(keys), bool)
    held[smallest] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _existing(path: Paths) -> list[Place]:
    """Each path that is named, patterns filled in; none is missing, none there twice."""
    named = [path] if isinstance(path, str | os.PathLike) else list(path)
    roots: list[Place] = []
    for each in named:
        root = place(each)
        matches = [root] if root.exists() else _matches(root)
        if not matches:
            raise LoadError(f"there is no file or folder '{each}'")
        roots += matches
    if len(set(roots)) < len(roots):
        twice = next(root for root in roots if roots.count(root) > 1)
        raise LoadError(f"'{twice}' is named twice")
    return roots


def _matches(pattern: Place) -> Sequence[Place]:
    if isinstance(pattern, Remote):
        return pattern.matches() if glob.has_magic(pattern.url) else []
    return [Path(match) for match in sorted(glob.glob(str(pattern)))]


def _guess(trees: Sequence[Tree]) -> str:
    """The one kind whose files are there."""
    seen = [_kinds(each) for each in trees]
    kinds = {kind: example for found in reversed(seen) for kind, example in found.items()}
    if not kinds:
        raise LoadError(
            f"{_names(trees)} holds no file of a kind that is known; there are "
            + "; ".join(f"{kind} ({' '.join(SOURCES[kind].suffixes)})" for kind in SOURCES)
        )
    if len(kinds) > 1:
        examples = ", ".join(f"{kind} ('{kinds[kind]}')" for kind in sorted(kinds))
        raise LoadError(
            f"{_names(trees)} holds files of {len(kinds)} kinds: {examples}; name the one to read, "
            f"such as kind={min(kinds)!r}"
        )
    return next(iter(kinds))


def _kinds(each: Tree) -> dict[str, str]:
    """The kinds whose files are below a path, with the first of these; a list only where it is all.

    A table beside pictures is about them, as a rule, and names what is there anyway.
    """
    examples: dict[str, str] = {}  # one for each ending: there may be millions of files
    for name in each.names:
        examples.setdefault(_ending(name), name)
    found = {
        kind: next((n for n in examples.values() if ends_with(n, SOURCES[kind].suffixes)), "")
        for kind in SOURCES
    }
    kinds = {kind: example for kind, example in found.items() if example}
    return {kind: kinds[kind] for kind in kinds if kind != "lists" or len(kinds) == 1}


def _ending(name: str) -> str:
    """What follows the last dot, or of what was compressed, the last but one."""
    start, _, last = name.rpartition(".")
    inner = start[start.rfind(".") :] if last in ("gz", "xz", "zst") else ""
    return f"{inner}.{last}"


def _names(trees: Sequence[Tree]) -> str:
    """For messages: the paths, at most three."""
    shown = ", ".join(f"'{each.path}'" for each in trees[:3])
    return shown if len(trees) <= 3 else f"{shown} and {len(trees) - 3} more"

"""What the kinds of sources share: listings, ranges of files, unique keys."""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from vqtok.errors import LoadError
from vqtok.pictures import PICTURES
from vqtok.sources.remote import Place, Remote

__all__ = [
    "PICTURES",
    "PerThread",
    "Ranges",
    "Tree",
    "check_unique",
    "each_of",
    "ends_with",
    "keys_of",
    "threads_for",
    "tree",
]

HIDDEN = re.compile(r"(?:^|/)\.")
REQUESTS = 16  # that wait at once
OPEN_FILES = 64  # that one thread keeps; many systems allow a process 1,024

T = TypeVar("T")
R = TypeVar("R")


class Tree(NamedTuple):
    """The files that a path or URL stands for.

    path   as it was named, a file or a folder
    root   the folder that `names` are relative to
    names  with "/" between their parts, in the order of their parts
    """

    path: Place
    root: Place
    names: list[str]

    @property
    def is_file(self) -> bool:
        """Whether the path names one file."""
        return self.path != self.root

    def at(self, name: str) -> Place:
        """Where one of the names is."""
        if self.is_file:
            return self.path
        return self.root.at(name) if isinstance(self.root, Remote) else self.root / name


def tree(path: Place) -> Tree:
    """The file itself, or all files below a folder; names that begin with a dot are left out."""
    if not path.is_dir():
        return Tree(path, path.parent, [path.name])
    names = _listed(path) if isinstance(path, Remote) else list(_below(path))
    # As lists of parts compare, and no name has such a byte in it.
    return Tree(path, path, sorted(names, key=lambda name: name.replace("/", "\0")))


def _listed(root: Remote) -> list[str]:
    return [name for name in root.below() if name and not HIDDEN.search(name)]


def _below(root: Path) -> Iterator[str]:
    """Links to folders are followed, each folder once: that which comes first by name."""
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_unreadable):
        state = os.stat(folder)
        new = (state.st_dev, state.st_ino) not in seen
        seen.add((state.st_dev, state.st_ino))
        inner[:] = sorted(name for name in inner if new and not name.startswith("."))
        prefix = Path(folder).relative_to(root).as_posix()
        start = "" if prefix == "." else f"{prefix}/"
        yield from (f"{start}{name}" for name in names if new and not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise LoadError(f"'{error.filename}' cannot be listed: {error.strerror}") from error


def keys_of(names: list[str]) -> list[str]:
    """Names as keys, which are text: a byte that is none becomes \\xNN."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raw = (name.encode("utf-8", "surrogateescape") for name in names)
        return [name.decode("utf-8", "backslashreplace") for name in raw]
    return names


def threads_for(paths: Sequence[Place]) -> int:
    """How many files are best looked at at once: many where each look waits for a server."""
    return REQUESTS if any(isinstance(path, Remote) for path in paths) else 1


def each_of(look: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """look(item) for each, in order; what has not begun is left when the caller stops."""
    if threads < 2 or len(items) < 2:
        yield from map(look, items)
        return
    pool = ThreadPoolExecutor(min(threads, len(items)))
    try:
        yield from pool.map(look, items)
    finally:
        pool.shutdown(cancel_futures=True)


def ends_with(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name has one of the endings, in capitals or not."""
    return name.lower().endswith(suffixes)


def check_unique(keys: Sequence[str], origin: Callable[[int], str]) -> None:
    """Raises where two samples have one key; `origin(index)` says where a sample is."""
    if len(set(keys)) == len(keys):
        return
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key in first:
            raise LoadError(
                f"two samples have the key {key!r}: {origin(first[key])} and {origin(index)}; "
                "rename one of them"
            )
        first[key] = index


class PerThread(threading.local):
    """A few things that are opened where they are used: new in each thread and each process.

    A forked process must not share a parent's handles, whose positions are common to both, and a
    pickled one arrives without any.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._process = os.getpid()
        self._held: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def __reduce__(self) -> tuple[type[PerThread], tuple[int]]:
        return PerThread, (self._most,)

    def get(self, name: Any, make: Callable[[], Any], size: int = 1) -> Any:
        """What is held under a name, made if it is not.

        Where the sizes of all exceed `most`, those least lately used fall out, never the last.
        """
        if self._process != os.getpid():
            self._process, self._held = os.getpid(), OrderedDict()
        if name not in self._held:
            self._held[name] = make(), size
            while len(self._held) > 1 and sum(n for _, n in self._held.values()) > self._most:
                self._held.popitem(last=False)
        self._held.move_to_end(name)
        return self._held[name][0]


class _File(io.FileIO):
    """Closed when nobody holds it any more."""

    def __del__(self) -> None:
        self.close()


class Ranges:
    """Bytes out of files, by place."""

    def __init__(self, paths: Sequence[Place]) -> None:
        self.paths = list(paths)
        self._open = PerThread(OPEN_FILES)

    def read(self, file: int, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, of the file with this number."""
        path = self.paths[file]
        if isinstance(path, Remote):
            found = path.read(offset, offset + size) if size else b""
        else:
            found = self._read(file, path, offset, size)
        if len(found) < size:
            raise LoadError(
                f"'{path}' ends before byte {offset + size}; it was whole when it was listed"
            )
        return found

    def _read(self, file: int, path: Path, offset: int, size: int) -> bytes:
        try:
            handle: _File = self._open.get(file, lambda: _File(path))
            handle.seek(offset)
            found: bytes = handle.read(size)
            return found
        except OSError as error:
            raise LoadError(f"'{path}' cannot be read: {error.strerror}") from error

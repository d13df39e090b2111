"""What the kinds of sources share: listings, ranges of files, unique keys."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vqtok.errors import LoadError

__all__ = [
    "PICTURES",
    "PerThread",
    "Ranges",
    "Tree",
    "check_unique",
    "ends_with",
    "tree",
]

# Endings of files that Pillow reads and people keep pictures in. No .gif: that is a clip, unless
# somebody asks for kind="folder".
PICTURES = (
    ".avif",
    ".bmp",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
OPEN_FILES = 64  # that one thread keeps; many systems allow a process 1,024


class Tree(NamedTuple):
    """The files that a path stands for.

    path   as it was named, a file or a folder
    root   the folder that `names` are relative to
    names  with "/" between their parts, in the order of their parts
    """

    path: Path
    root: Path
    names: list[str]


def tree(path: Path) -> Tree:
    """The file itself, or all files below a folder; names that begin with a dot are left out."""
    if not path.is_dir():
        return Tree(path, path.parent, [path.name])
    return Tree(path, path, sorted(_below(path), key=lambda name: name.split("/")))


def _below(root: Path) -> Iterator[str]:
    """Links to folders are followed, each folder once."""
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_unreadable):
        state = os.stat(folder)
        new = (state.st_dev, state.st_ino) not in seen
        seen.add((state.st_dev, state.st_ino))
        inner[:] = [name for name in inner if new and not name.startswith(".")]
        prefix = Path(folder).relative_to(root).as_posix()
        start = "" if prefix == "." else f"{prefix}/"
        yield from (f"{start}{name}" for name in names if new and not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise LoadError(f"'{error.filename}' cannot be listed: {error.strerror}") from error


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

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._open = PerThread(OPEN_FILES)

    def read(self, file: int, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, of the file with this number."""
        path = self.paths[file]
        try:
            handle: _File = self._open.get(file, lambda: _File(path))
            handle.seek(offset)
            found = handle.read(size)
        except OSError as error:
            raise LoadError(f"'{path}' cannot be read: {error.strerror}") from error
        if len(found) < size:
            raise LoadError(
                f"'{path}' ends before byte {offset + size}; it was whole when it was listed"
            )
        return found

"""A data set in a folder, which several processes and machines may share."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vqtok.errors import LoadError, VqtokError

__all__ = ["FolderStore", "make_absent", "refusing"]

# What os.link says on file systems without links, such as exFAT, and some over networks.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
FULL = (errno.ENOSPC, errno.EDQUOT)
TRIES = 5
LOCK_IS_DEAD = 60.0


class FolderStore:
    """A store in a local or mounted folder; see `vqtok.offline.store.Store`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = str(root)
        self.atomic = True

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return not self.exists(name) and self._write(self._root / name, data, make_absent)

    def put(self, name: str, data: bytes) -> None:
        self._write(self._root / name, data, _replace)

    def get(self, name: str) -> bytes:
        path = self._root / name
        with refusing(path, "read"):
            return path.read_bytes()

    def list(self, prefix: str) -> list[str]:
        folder, _, start = prefix.rpartition("/")
        with refusing(self._root / folder, "listed"):
            try:
                found = sorted(os.listdir(self._root / folder))
            except FileNotFoundError:
                return []
        above = f"{folder}/" if folder else ""
        return [above + name for name in found if name.startswith(start) and name[0] != "."]

    def exists(self, name: str) -> bool:
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        path = self._root / name
        with refusing(path, "read"):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def is_empty(self) -> bool:
        with refusing(self._root, "listed"):
            for _, folders, files in os.walk(self._root, onerror=_raise):
                folders[:] = [name for name in folders if name[0] != "."]
                if any(name[0] != "." for name in files):
                    return False
        return True

    def delete(self, name: str) -> None:
        path = self._root / name
        with refusing(path, "removed"):
            path.unlink(missing_ok=True)

    def local(self, name: str) -> Path:
        return self._root / name

    def open(self, name: str) -> IO[bytes]:
        path = self._root / name
        with refusing(path, "read"):
            return path.open("rb")

    def sweep(self) -> None:
        with refusing(self._root, "cleared of parts of files"):
            for pattern in (".*.part", ".*.lock", "*/.*.part", "*/.*.lock"):
                for left in self._root.glob(pattern):
                    left.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes, place: Callable[[Path, Path], bool]) -> bool:
        with refusing(path, "written"):
            path.parent.mkdir(exist_ok=True)
            for _ in range(TRIES - 1):
                with _part(path, data) as part, suppress(FileNotFoundError):
                    return place(part, path)
                # Somebody swept while we wrote.
            with _part(path, data) as part:
                return place(part, path)


@contextmanager
def _part(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside `path` with these bytes, on the disk; gone afterwards."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        with suppress(OSError):
            part.unlink()


def make_absent(part: Path, path: Path) -> bool:
    """Gives a whole file its name, unless that is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        # Over a network, a link may be made though its answer was lost and asked for again.
        return os.path.samefile(part, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _under_lock(part, path)
    _sync(path.parent)
    return True


def _under_lock(part: Path, path: Path) -> bool:
    """Without links: a rename, which would overwrite, by whoever holds the name's lock."""
    lock = _Lock(path)
    while not path.exists():
        if not lock.taken(part):
            time.sleep(0.02)
            continue
        try:
            if not lock.is_own():  # we were stopped for so long that somebody broke it
                continue
            return not path.exists() and _replace(part, path)
        finally:
            lock.leave()
    return False


class _Lock:
    """A file beside `path` that says whose it is."""

    def __init__(self, path: Path) -> None:
        self._token = secrets.token_hex(8).encode()
        self._lock = path.with_name(f".{path.name}.lock")
        self._aside = path.with_name(f".{path.name}.{self._token.decode()}.lock")

    def taken(self, part: Path) -> bool:
        """Whether it is ours now; one whose holder must be dead is broken, to be taken next."""
        try:
            with self._lock.open("xb") as file:
                file.write(self._token)
            return True
        except FileExistsError:
            seen = _content(self._lock)
            if seen is not None and _older(self._lock, part) > LOCK_IS_DEAD:
                self._break(seen)
            return False

    def is_own(self) -> bool:
        """Whether nobody has broken it."""
        return _content(self._lock) == self._token

    def leave(self) -> None:
        """Takes it away, if it is ours."""
        if self.is_own():
            self._lock.unlink(missing_ok=True)

    def _break(self, seen: bytes) -> None:
        """Another may have broken it before us, and hold a new one of the same name by now."""
        try:
            self._lock.replace(self._aside)
        except FileNotFoundError:
            return
        found = _content(self._aside)
        if found is not None and found != seen:
            with suppress(FileExistsError), self._lock.open("xb") as file:
                file.write(found)
        self._aside.unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _older(lock: Path, part: Path) -> float:
    """Seconds since a lock was made, by the clock of the file system."""
    os.utime(part)
    try:
        return part.stat().st_mtime - lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _replace(part: Path, path: Path) -> bool:
    part.replace(path)
    _sync(path.parent)
    return True


def _raise(error: OSError) -> None:
    raise error


def _sync(folder: Path) -> None:
    """Has the names in a folder on the disk; not every system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def refusing(path: Path, done: str) -> Iterator[None]:
    """Errors of the system become one sentence on `path`, which cannot be `done`."""
    try:
        yield
    except VqtokError:
        raise
    except OSError as error:
        hint = "; make room and run it again: what is done stays" if error.errno in FULL else ""
        reason = error.strerror or str(error)
        raise LoadError(f"'{path}' cannot be {done}: {reason}{hint}") from error

"""Files and folders by URL, through fsspec. Importing this brings no fsspec."""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from vqtok.errors import LoadError, MissingExtraError, VqtokError
from vqtok.extras import require

__all__ = ["Place", "Remote", "contents", "is_url", "place"]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_WEB = ("http://", "https://")
_HOSTLESS = ("memory",)  # where a path begins at once
AHEAD = 1 << 20  # bytes that one request brings where a file is read bit by bit


class Remote:
    """What a URL names; where a `pathlib.Path` would do, this does, as far as sources need it.

    It holds no connection, so it can be pickled, and used by all threads and forked processes.
    Options of a service, such as keys or an endpoint, come from where fsspec looks for them: the
    environment and ~/.config/fsspec. A web page is a folder where its URL ends in a slash.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Remote({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: str) -> Remote:
        """What somebody means by a name here: ".." leads up, "/" to the top of the same host."""
        scheme, _, path = self._bare.partition("://")
        host, _, folder = ("", "", path) if scheme in _HOSTLESS else path.partition("/")
        whole = posixpath.normpath(posixpath.join("/", folder, name)).lstrip("/")
        return Remote(f"{scheme}://{host}/{whole}" if host else f"{scheme}://{whole}")

    def at(self, name: str) -> Remote:
        """The file that a listing calls so, as it stands: "a//b" and "a/b" may be two."""
        return Remote(f"{self._bare.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part, without a query."""
        return self._bare.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        return Remote(self._bare.rstrip("/").rpartition("/")[0])

    @property
    def _bare(self) -> str:
        """The URL; of the web's, without what follows the path, such as a signature."""
        return re.split("[?#]", self.url)[0] if self.url.startswith(_WEB) else self.url

    def exists(self) -> bool:
        return self._info() is not None

    def is_dir(self) -> bool:
        return (self._info() or {}).get("type") == "directory"

    def size(self) -> int:
        """In bytes."""
        info = self._info()
        if info is None:
            raise self._missing()
        found = info.get("size")
        if found is None:
            raise LoadError(f"'{self}' cannot be read in parts: its size is not told")
        return int(found)

    def matches(self) -> list[Remote]:
        """What a pattern such as `train-*.tar` stands for, in order."""
        with self._telling():
            system, path = self._system()
            return [Remote(system.unstrip_protocol(name)) for name in sorted(system.glob(path))]

    def below(self) -> list[str]:
        """The names of all files in a folder, relative to it."""
        with self._telling():
            system, path = self._system()
            system.invalidate_cache()  # it may have been listed before a file was added
            start = len(path.rstrip("/")) + 1
            return [name[start:] for name in system.find(path)]

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Bytes from `start` to before `end`, fewer where the file ends before."""
        with self._telling():
            system, path = self._system()
            part = {} if (start, end) == (0, None) else {"start": start, "end": end}
            found = bytes(system.cat_file(path, **part))
        if end is not None and len(found) > end - start:
            raise LoadError(
                f"'{self}' cannot be read in parts: its server sends the whole file; download it "
                "first"
            )
        return found

    def open(self, mode: str = "rb", buffering: int = AHEAD) -> IO[bytes]:
        """For reading in binary, from any place."""
        return cast("IO[bytes]", io.BufferedReader(_Parts(self), buffering))

    def _info(self) -> dict[str, Any] | None:
        """None where nothing is there."""
        try:
            if self.url.startswith(_WEB) and self._bare.endswith("/"):
                return {"type": "directory"}
            with self._telling():
                system, path = self._system()
                return dict(system.info(path))
        except _Missing:
            return None

    def _missing(self) -> _Missing:
        return _Missing(f"there is no file or folder '{self}'")

    def _system(self) -> tuple[Any, str]:
        """fsspec's file system, and what it calls this file."""
        fsspec = require("fsspec", "vqtok[offline]", f"'{self}' is read")
        scheme, host = urlsplit(self.url)[:2]
        system = _system(os.getpid(), fsspec, f"{scheme}://{host}")
        return system, system._strip_protocol(self.url)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """One sentence for whatever a service's own package raises; they have no common base."""
        try:
            yield
        except VqtokError:
            raise
        except FileNotFoundError as error:
            cause = error.__cause__
            # Of the web, fsspec calls so whatever went wrong.
            if self.url.startswith(_WEB) and cause and getattr(cause, "status", 0) != 404:
                raise self._unread(cause) from None
            raise self._missing() from None
        except ImportError as error:
            raise MissingExtraError(f"'{self}' cannot be read: {error}") from None
        except Exception as error:
            raise self._unread(error) from None

    def _unread(self, error: BaseException) -> LoadError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return LoadError(f"'{self}' cannot be read: {reason}")


class _Missing(LoadError):
    """Nothing is there."""


Place: TypeAlias = Path | Remote


class _Parts(io.RawIOBase):
    """A file of which each read is one request."""

    def __init__(self, remote: Remote) -> None:
        self._remote, self._size, self._at = remote, remote.size(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._at + len(buffer))
        if end <= self._at:
            return 0
        found = self._remote.read(self._at, end)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


@lru_cache(64)
def _system(process: int, fsspec: Any, url: str) -> Any:
    """One for all threads; fsspec itself would make one in each. A forked process makes its own."""
    return fsspec.core.url_to_fs(url)[0]


def is_url(named: str) -> bool:
    """Whether it is a URL."""
    return _URL.match(named) is not None


def place(named: str | os.PathLike[str]) -> Place:
    """A path, or what a URL names; file:// stands for a path."""
    text = os.fspath(named)
    match = _URL.match(text)
    if match is None:
        return Path(text).expanduser()
    if match[1].lower() == "file":
        return Path(unquote(text[match.end() :]))
    return Remote(text)


def contents(where: Place) -> Path | bytes:
    """What a sample holds of a picture file: a path is read later, by whoever decodes it."""
    return where.read() if isinstance(where, Remote) else where

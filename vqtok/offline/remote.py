"""A data set on an object store or whatever else fsspec reaches."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vqtok.errors import LoadError, VqtokError
from vqtok.extras import require

__all__ = ["RemoteStore"]

# They have no folders, only names; to make one there would make a bucket.
BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
# Those whose clients can write what is absent, in one step; "memory" is of one process alone.
ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}


class RemoteStore:
    """A store behind an fsspec URL; see `vqtok.offline.store.Store`."""

    def __init__(self, url: str, create: bool) -> None:
        fsspec = require("fsspec", "vqtok[offline]", f"'{url}' is reached")
        self.url = url.rstrip("/")
        with self._refusing("", "reached"):
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        scheme = url.partition("://")[0]
        self._bucket = scheme in BUCKETS
        known = inspect.signature(self._files.pipe_file).parameters if scheme in ATOMIC else ()
        self._absent = _absent(known)
        self.atomic = bool(self._absent)
        if not self._bucket:
            self._need_folder(create)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        if self.exists(name):
            return False
        if not self.atomic:
            self.put(name, data)
            return self.get(name) == data
        with self._refusing(name, "written"):
            try:
                self._files.pipe_file(self._path(name), data, **self._absent)
            except FileExistsError:
                return False
        return True

    def put(self, name: str, data: bytes) -> None:
        with self._refusing(name, "written"):
            if self.atomic:
                self._files.pipe_file(self._path(name), data)
            else:
                self._move_in(name, data)

    def get(self, name: str) -> bytes:
        with self._refusing(name, "read"):
            data: bytes = self._files.cat_file(self._path(name))
            return data

    def list(self, prefix: str) -> list[str]:
        folder, _, start = prefix.rpartition("/")
        self._files.invalidate_cache()
        with self._refusing(folder, "listed"):
            try:
                found = self._files.ls(self._path(folder), detail=True)
            except FileNotFoundError:
                return []
        names = [entry["name"].rsplit("/", 1)[-1] for entry in found if entry["type"] == "file"]
        above = f"{folder}/" if folder else ""
        return sorted(above + name for name in names if name.startswith(start) and _is_shown(name))

    def is_empty(self) -> bool:
        self._files.invalidate_cache()
        with self._refusing("", "listed"):
            for folder, _, files in self._files.walk(self._root):
                inner = str(folder).rstrip("/").removeprefix(str(self._root).rstrip("/"))
                if "/." not in inner and any(map(_is_shown, files)):
                    return False
        return True

    def exists(self, name: str) -> bool:
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        self._files.invalidate_cache()
        with self._refusing(name, "read"):
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def delete(self, name: str) -> None:
        with self._refusing(name, "removed"):
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def local(self, name: str) -> Path | None:
        return None

    def open(self, name: str) -> IO[bytes]:
        with self._refusing(name, "read"):
            file: IO[bytes] = self._files.open(self._path(name), "rb")
            return file

    def sweep(self) -> None:
        """A store of objects shows whole ones only; others may have parts."""
        if self.atomic:
            return
        for folder in ("", "shards", "done", "timings"):
            with self._refusing(folder, "cleared of parts of files"), suppress(FileNotFoundError):
                for path in self._files.ls(self._path(folder), detail=False):
                    last = path.rsplit("/", 1)[-1]
                    if last.startswith(".") and last.endswith(".part"):
                        self._files.rm_file(path)

    def _move_in(self, name: str, data: bytes) -> None:
        """So that nobody sees half of it, wherever a file can be renamed."""
        folder, _, last = name.rpartition("/")
        part = f"{folder}/.{last}.{secrets.token_hex(4)}.part".removeprefix("/")
        self._files.pipe_file(self._path(part), data)
        try:
            self._files.mv(self._path(part), self._path(name))
        except FileExistsError:  # of those that don't rename over what is there
            self._files.rm_file(self._path(name))
            self._files.mv(self._path(part), self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else str(self._root)

    def _need_folder(self, create: bool) -> None:
        with self._refusing("", "made"):
            if create:
                for inner in ("", "shards", "done", "timings"):
                    self._files.makedirs(self._path(inner), exist_ok=True)
            elif not self._files.isdir(self._root):
                raise LoadError(f"there is no folder '{self.url}'")

    @contextmanager
    def _refusing(self, name: str, done: str) -> Iterator[None]:
        """Errors become one sentence; what clients raise is of no common class."""
        try:
            yield
        except (VqtokError, FileExistsError):
            raise
        except Exception as error:
            place = f"{self.url}/{name}" if name else self.url
            reason = _reason(error)
            raise LoadError(f"'{place}' cannot be {done}: {reason}") from error


def _absent(settings: Collection[str]) -> dict[str, Any]:
    """What a client is told so that it writes only what is not there; {} where it knows no way."""
    if "mode" in settings:
        return {"mode": "create"}
    return {"overwrite": False} if "overwrite" in settings else {}  # that of Azure


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    text: Any = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

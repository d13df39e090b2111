"""Where a data set lies: the one seam that "exactly once" rests on.

`put_if_absent` is atomic in a folder (a link, or a lock where the file system has no links), on
S3 and Azure (`If-None-Match`) and Google Cloud Storage (`ifGenerationMatch`). Other fsspec file
systems are not `atomic`: there a file is written under another name and then moved, and of two who
meet, the last one's stays. Data has names of its bytes there, so that whichever record stays names
what it was made with.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Protocol

from vqtok.errors import LoadError
from vqtok.offline.folder import FolderStore
from vqtok.offline.remote import RemoteStore
from vqtok.sources.remote import place

__all__ = ["Store", "open_store"]


class Store(Protocol):
    """Files by name, with "/" between the parts of names; whole files or none.

    What cannot be read or written raises a LoadError that names it and says why.
    """

    url: str
    atomic: bool

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Whether it was written; False where the name is there already, with whatever bytes."""

    def put(self, name: str, data: bytes) -> None:
        """Writes it, over what is there."""

    def get(self, name: str) -> bytes:
        """All bytes."""

    def list(self, prefix: str) -> list[str]:
        """Sorted names that begin with `prefix` and have no "/" behind it, such as done/00000.json.

        A prefix is a folder with a "/" behind it, and the beginning of a name or nothing.
        """

    def exists(self, name: str) -> bool:
        """Whether it is there now."""

    def size(self, name: str) -> int | None:
        """Bytes; None where it is not there."""

    def is_empty(self) -> bool:
        """Whether there are no files at any depth, but for hidden ones such as .DS_Store."""

    def delete(self, name: str) -> None:
        """Takes it away; no error where it is not there."""

    def local(self, name: str) -> Path | None:
        """Its path, where the store is a folder."""

    def open(self, name: str) -> IO[bytes]:
        """For reading, at any place."""

    def sweep(self) -> None:
        """Takes away what killed writers left half written."""


def open_store(url: str, create: bool = False) -> Store:
    """A folder, or what fsspec reaches, such as s3://bucket/folder.

    create  make the folder where there is none; without it, that is a LoadError
    """
    root = place(url)
    if not isinstance(root, Path):
        return RemoteStore(url, create)
    if create:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LoadError(f"'{root}' cannot be made: {error.strerror}") from error
    if not root.is_dir():
        raise LoadError(f"there is no folder '{root}'")
    return FolderStore(root)

"""Files that `torch.save` wrote, in either of its formats; tensors stay in the file until asked."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import IO, Any

from vqtok.checkpoints.unpickling import Archive, damaged, unpickle
from vqtok.errors import LoadError

__all__ = ["LEGACY", "ZIP", "read_pickle", "read_zip"]

ZIP = b"PK\x03\x04"
# The pickle of the number that files of torch before 1.6 begin with.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_VERSION = 1001
# Of a zip file's entry: its head, in which the lengths of name and extra field come last.
HEAD = struct.Struct("<4s22xHH")


def read_zip(path: Path) -> Any:
    """The object in a file of torch 1.6 or later."""
    try:
        with zipfile.ZipFile(path) as found:
            entries = {entry.filename: entry for entry in found.infolist()}
            root = _root(path, list(entries))
            if entries.get(f"{root}/byteorder"):
                _check_order(path, found.read(f"{root}/byteorder"))
            archive = Archive(path, _places(path, list(entries.values()), f"{root}/data/"))
            with found.open(f"{root}/data.pkl") as file:
                return unpickle(file, archive)
    except LoadError:
        raise
    except zipfile.BadZipFile:  # whose words say no more
        raise damaged(path) from None
    except Exception as error:  # damaged bytes make zipfile raise anything
        raise damaged(path, error) from error


def _root(path: Path, names: list[str]) -> str:
    """The folder within the file that everything lies in."""
    if any(name.endswith("/constants.pkl") for name in names):
        raise LoadError(
            f"{path} is refused: it is a TorchScript archive, which is a program; take a file that "
            "holds the weights alone"
        )
    roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        inside = ", ".join(names[:4]) or "nothing"
        raise LoadError(
            f"{path} is a zip archive that torch.save did not write: it holds {inside}; unpack it "
            "and name the checkpoint that is in it"
        )
    return roots[0]


def _check_order(path: Path, order: bytes) -> None:
    if order.strip() != b"little":
        raise LoadError(
            f"{path} was written on a big-endian machine; save it again on a little-endian one"
        )


def _places(path: Path, entries: list[zipfile.ZipInfo], start: str) -> dict[str, tuple[int, int]]:
    """Where each storage lies; they are stored as they are, so that they can be read in part."""
    found = {}
    with path.open("rb") as file:
        for entry in entries:
            if not entry.filename.startswith(start):
                continue
            if entry.compress_type != zipfile.ZIP_STORED:
                raise LoadError(f"{path} is compressed, which torch.save never does; unpack it")
            file.seek(entry.header_offset)
            head = file.read(HEAD.size)
            if len(head) < HEAD.size or not head.startswith(ZIP):
                raise damaged(path, f"{entry.filename} is not where its contents list it")
            _, name, extra = HEAD.unpack(head)
            first = entry.header_offset + HEAD.size + name + extra
            found[entry.filename.removeprefix(start)] = first, entry.file_size
    return found


def read_pickle(path: Path) -> Any:
    """The object in a file of an older torch, or in a plain pickle."""
    archive = Archive(path)
    with path.open("rb") as file:
        legacy = file.read(len(LEGACY)) == LEGACY
        if not legacy:
            file.seek(0)
            return unpickle(file, archive)
        if unpickle(file, archive) != LEGACY_VERSION:
            raise LoadError(f"{path} has a format of torch.save that this version does not read")
        about = unpickle(file, archive)
        if not isinstance(about, dict) or about.get("little_endian") is not True:
            raise LoadError(
                f"{path} was written on a big-endian machine; save it again on a little-endian one"
            )
        found = unpickle(file, archive)
        _find_storages(file, archive, unpickle(file, archive))
    return found


def _find_storages(file: IO[bytes], archive: Archive, keys: Any) -> None:
    """Fills in where they lie: behind the pickles, one after the other, each after its length."""
    if not isinstance(keys, list):
        raise damaged(archive.path, "it has no list of its storages")
    for key in keys:
        storage = archive.storages.get(key)
        length = file.read(8)
        if storage is None or len(length) < 8:
            raise damaged(archive.path, f"the storage {key!r} is missing")
        if struct.unpack("<q", length) != (storage.numbers,):
            raise damaged(archive.path, f"the storage {key!r} has another length than it should")
        size = storage.numbers * storage.dtype.itemsize
        archive.places[key] = file.tell(), size
        file.seek(size, 1)

"""The sha256 of files, of which large ones are not read again while they stay as they are."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["remembered", "sha256"]

# A file that was written so lately may change once more within what its clock tells apart.
SETTLED = 2_000_000_000  # nanoseconds


def sha256(file: Path) -> str:
    """Of what the file holds now."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def remembered(file: Path, index: Path) -> str:
    """The same, from the folder `index` where size, time and inode are those of then.

    It is put there unless the file is new. An index that cannot be read or written is done without.
    """
    place = index / f"{hashlib.sha256(os.fsencode(file.resolve())).hexdigest()}.json"
    before = _state(file)
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(place.read_text(encoding="utf-8"))
        if kept["state"] == before:
            return str(kept["sha256"])
    found = sha256(file)
    if _state(file) == before and time.time_ns() - before[1] > SETTLED:
        with suppress(OSError):
            _keep(place, json.dumps({"state": before, "sha256": found}))
    return found


def _state(file: Path) -> list[int]:
    seen = file.stat()
    return [seen.st_size, seen.st_mtime_ns, seen.st_ino, seen.st_dev, seen.st_ctime_ns]


def _keep(place: Path, text: str) -> None:
    """Written whole, whoever else writes it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f"{place.name[:16]}.", dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)

"""What says that a shard is done: counts, failures, checksums. Deterministic bytes, as its data.

Nothing here depends on when, where or by whom a shard was made; that is a `Timing`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from vqtok.errors import LoadError
from vqtok.offline.moments import Moments
from vqtok.offline.stored import Stored

__all__ = [
    "DONE",
    "SHARDS",
    "TIMINGS",
    "Failure",
    "File",
    "Made",
    "Record",
    "Stage",
    "Timing",
    "class_order",
    "count_labels",
    "describe",
    "pack_histogram",
    "sha256",
    "stem",
    "unpack_histogram",
    "unstem",
]

SHARDS, DONE, TIMINGS = "shards/", "done/", "timings/"
LARGEST_HISTOGRAM = 1 << 20
MOST_LABELS = 10_000

Stage = Literal["read", "decode", "view", "columns", "encode", "overflow"]


def stem(shard: int, attempt: int = 0) -> str:
    """What the names of a shard's files begin with: 00007, and 00007_1 for its first retry."""
    return f"{shard:05d}_{attempt}" if attempt else f"{shard:05d}"


def unstem(name: str) -> tuple[int, int]:
    """(shard, attempt) of a file's name without its folder, such as 00007_1.json."""
    match = re.match(r"(\d+)(?:_(\d+))?(?![\d_])", name)
    if match is None:
        raise LoadError(f"'{name}' does not begin with a shard's number")
    return int(match[1]), int(match[2] or 0)


def sha256(data: bytes) -> str:
    """As 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class Failure(Stored):
    """A sample that could not be made into all of its rows.

    index   of the sample in the source
    rows    how many of its views are missing
    stage   where it went wrong
    """

    key: str
    index: int
    rows: int
    stage: Stage
    reason: str

    @field_validator("key", "reason", mode="before")
    @classmethod
    def _storable(cls, text: str) -> str:
        """File names that are no UTF-8 are shown with their bytes escaped."""
        return text.encode("utf-8", "backslashreplace").decode()


class File(Stored):
    """A file of a shard; its name is that below shards/."""

    name: str
    sha256: str
    bytes: int


class Record(Stored):
    """A shard that is done: `planned` is `rows` and the rows that failed.

    plan           the plan's hash
    planned        rows that this attempt was to make: those of the shard, or those failed before
    codes_sha256   over the codes of all rows, in order
    histogram      how often each code came (`unpack_histogram`); None without codes or above 2^20
    labels         how often each label came, as text; at most 10,000 of them
    moments        of the latents, where there are any
    """

    shard: int
    attempt: int
    plan: str
    planned: int
    rows: int
    failed: list[Failure]
    files: list[File]
    codes_sha256: str
    histogram: str | None
    labels: dict[str, int]
    moments: Moments | None

    @property
    def lost(self) -> int:
        """Rows that failed."""
        return sum(failure.rows for failure in self.failed)

    @property
    def name(self) -> str:
        """Where it is kept."""
        return f"{DONE}{stem(self.shard, self.attempt)}.json"


class Timing(Stored):
    """How a shard was made, for people: it may be missing, and no result depends on it.

    seconds   from the claim to the commit
    waits     seconds that the encoder waited, by what for: decode, encode, write
    finished  seconds since 1970, by the clock of the machine that made it
    differs   rows that are other than those of the one who came first; None where nobody did
    """

    shard: int
    attempt: int
    rows: int
    failed: int
    seconds: float
    waits: dict[str, float]
    host: str
    pid: int
    device: str
    finished: float
    differs: int | None = None


class Made(NamedTuple):
    """A shard as its worker hands it to `vqtok.offline.commit.commit`.

    files    bytes by their names below shards/, which begin with `stem(shard, attempt)`
    record   names just these files, in the order of their names
    """

    shard: int
    attempt: int
    files: dict[str, bytes]
    record: Record
    timing: Timing | None = None


def describe(files: Mapping[str, bytes]) -> list[File]:
    """For a record: each file's name, hash and size, in the order of names."""
    return [
        File(name=name, sha256=sha256(files[name]), bytes=len(files[name]))
        for name in sorted(files)
    ]


def pack_histogram(counts: npt.ArrayLike) -> str | None:
    """(K,) counts as base64 of varints (LEB128), one after another; None above 2^20 codes.

    Most counts take a byte so. Not deflated: versions of zlib do not give the same bytes.
    """
    whole = np.asarray(counts)
    if len(whole) > LARGEST_HISTOGRAM:
        return None
    packed = bytearray()
    for count in whole.tolist():
        while count > 127:
            packed.append(count & 127 | 128)
            count >>= 7
        packed.append(count)
    return base64.b64encode(packed).decode()


def unpack_histogram(packed: str) -> npt.NDArray[np.int64]:
    """(K,) counts."""
    data = np.frombuffer(base64.b64decode(packed), np.uint8)
    ends = np.flatnonzero(data < 128)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    counts: npt.NDArray[np.int64] = np.add.reduceat(
        (data & 127).astype(np.int64) << 7 * places, starts
    )
    return counts


def count_labels(labels: Iterable[int | str | None]) -> dict[str, int]:
    """For a record: how often each label comes, of the first 10,000 that do."""
    counts: dict[str, int] = {}
    for label in labels:
        name = str(label)
        if label is not None and (name in counts or len(counts) < MOST_LABELS):
            counts[name] = counts.get(name, 0) + 1
    return counts


def class_order(names: Iterable[str]) -> list[str]:
    """Names of classes: by value where all are whole numbers as Python writes them, else as text.

    Of the classes 0 to n - 1 each then has its own number.
    """
    found = sorted(names)
    return sorted(found, key=int) if all(map(_is_whole, found)) else found


def _is_whole(name: str) -> bool:
    return re.fullmatch(r"0|-?[1-9][0-9]{0,18}", name) is not None

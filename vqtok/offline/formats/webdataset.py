"""WebDataset shards: one tar, read as it is by `webdataset` and by `datasets`.

Plain USTAR headers with every field fixed, so that equal rows are equal bytes; the usual writers
add a time and extended headers to each file.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError, LoadError
from vqtok.offline.formats import FORMATS, Files, blocks_of, file_bytes, held_bytes, only
from vqtok.offline.rows import Row, Rows, columns_text, parse_columns
from vqtok.offline.tables import dtype_of

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.sources.shared import Shared

__all__ = ["Reader", "WebDataset", "columns_json", "sample_name"]

BYTES = 512
# Rows that are read at once.
BLOCK = 4
# About what the places of a sample's files take in memory.
SAMPLE_BYTES = 1000
# A header has 100 bytes for a name, and endings take up to 12 of them.
LONGEST = 88
CODES, LATENTS, STORY, LABEL, TEXT = "codes.npy", "latents.npy", "json", "cls", "txt"


class WebDataset:
    """00000.tar; of each row codes.npy, latents.npy, json, and cls and txt where there are some."""

    def check(self, plan: Plan) -> None:
        """It holds all plans."""

    def write(self, rows: Rows, plan: Plan, stem: str) -> dict[str, bytes]:
        """See `Format`."""
        out = io.BytesIO()
        # `datasets` expects of all samples the same files.
        captioned = any(text is not None for text in rows.texts)
        for row in rows:
            name = sample_name(row.key, row.view if len(plan.view_names) > 1 else "")
            for ending, data in _members(row, plan, captioned):
                _append(out, f"{name}.{ending}", data)
        out.write(bytes(2 * BYTES))
        return {f"{stem}.tar": out.getvalue()}

    def read(
        self, store: Files, names: Sequence[str], plan: Plan, held: Shared | None = None
    ) -> Reader:
        """See `Format`."""
        return Reader(store, only(names, ".tar"))


class Reader:
    """Rows of one tar, whose headers are read once."""

    def __init__(self, store: Files, name: str) -> None:
        self._data = file_bytes(store, name)
        self._samples: list[dict[str, slice]] = []
        last = None
        for member, place in _places(self._data, name):
            sample, _, ending = member.partition(".")
            if sample != last:
                self._samples.append({})
            self._samples[-1][ending], last = place, sample
        self.blocks = blocks_of(len(self._samples), BLOCK)
        self.nbytes = held_bytes(self._data) + SAMPLE_BYTES * len(self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def rows(self, start: int, stop: int) -> Rows:
        """See `ShardReader`."""
        return Rows.of([self._row(sample) for sample in self._samples[start:stop]])

    def heads(self) -> tuple[list[str], list[str]]:
        """See `ShardReader`."""
        stories = [self._story(sample) for sample in self._samples]
        return [story["key"] for story in stories], [story["view"] for story in stories]

    def _row(self, sample: dict[str, slice]) -> Row:
        story = self._story(sample)
        return Row(
            key=story["key"],
            view=story["view"],
            box=tuple(story["box"]),
            flip=story["flip"],
            size=tuple(story["size"]),
            grid=tuple(story["grid"]),
            scales=tuple((height, width) for height, width in story["scales"]),
            codes=self._array(sample, CODES),
            latents=self._array(sample, LATENTS),
            label=story["label"],
            text=story["text"],
            columns=parse_columns(columns_json(story["columns"])),
        )

    def _story(self, sample: dict[str, slice]) -> dict[str, Any]:
        story: dict[str, Any] = json.loads(self._data[sample[STORY]].tobytes())
        return story

    def _array(self, sample: dict[str, slice], ending: str) -> npt.NDArray[Any] | None:
        if ending not in sample:
            return None
        array: npt.NDArray[Any] = np.load(io.BytesIO(self._data[sample[ending]].tobytes()))
        return array


def sample_name(key: str, view: str = "") -> str:
    """What the files of a row are called, before the first dot: `__key__` of `webdataset`.

    Letters, digits, "_" and "-" of a key stay; the bytes of all else are written as in a URL. A
    view follows after "@". A name too long for a tar's header is cut, and "~" and the first 32
    digits of the sha256 of the whole of it follow: different rows have different names.
    """
    whole = _escaped(key) + (f"@{_escaped(view)}" if view else "")
    if len(whole) <= LONGEST:
        return whole
    return f"{whole[: LONGEST - 33]}~{sha256(whole.encode()).hexdigest()[:32]}"


# --- inside -------------------------------------------------------------------------------------


def _escaped(text: str) -> str:
    # `quote` leaves these two, which mean something here.
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")


def columns_json(columns: Any) -> str:
    """Columns as they stand inside of a row's JSON -> their own text."""
    return json.dumps(columns) if columns else ""


def _members(row: Row, plan: Plan, captioned: bool) -> Iterator[tuple[str, bytes]]:
    if row.codes is not None:
        yield CODES, _npy(row.codes, dtype_of(plan))
    if row.latents is not None:
        yield LATENTS, _npy(row.latents, "<f2")
    yield STORY, _story(row)
    if plan.label == "int" and row.label is not None:
        yield LABEL, str(row.label).encode()
    if captioned:
        yield TEXT, (row.text or "").encode()


def _npy(array: npt.NDArray[Any], dtype: str) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array, dtype), version=(1, 0))
    return out.getvalue()


def _story(row: Row) -> bytes:
    told = {name: value for name, value in row._asdict().items() if name in STORED}
    told["columns"] = json.loads(columns_text(row.columns) or "{}")
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


STORED = ("key", "view", "box", "flip", "size", "grid", "scales", "label", "text")


def _append(out: io.BytesIO, name: str, data: bytes) -> None:
    out.write(_header(name, len(data)))
    out.write(data)
    out.write(bytes(-len(data) % BYTES))


def _header(name: str, size: int) -> bytes:
    """A USTAR header of a file that anybody may read, from 1970, of nobody."""
    if size >= 8**11:
        raise InputError(f"a file in a tar has less than 8 GiB; '{name}' has {size} bytes")
    fields = [
        (name.encode(), 100),
        (b"0000644\0", 8),
        (b"0000000\0", 8),
        (b"0000000\0", 8),
        (b"%011o\0" % size, 12),
        (b"00000000000\0", 12),
        (b" " * 8, 8),
        (b"0", 1),
        (b"", 100),
        (b"ustar\00000", 8),
    ]
    head = b"".join(value.ljust(length, b"\0") for value, length in fields).ljust(BYTES, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _places(data: npt.NDArray[np.uint8], tar: str) -> Iterator[tuple[str, slice]]:
    """Each file's name and where its bytes are, in a tar that `write` made."""
    start = 0
    while start + BYTES <= len(data):
        head = data[start : start + BYTES].tobytes()
        if not head.strip(b"\0"):
            return
        size = re.fullmatch(rb"([0-7]{11})\0", head[124:136])
        if size is None or head[257:262] != b"ustar":
            raise LoadError(f"'{tar}' is no tar of this format at byte {start}")
        start += BYTES
        length = int(size[1], 8)
        yield head[:100].rstrip(b"\0").decode(), slice(start, start + length)
        start += length + -length % BYTES
    raise LoadError(f"'{tar}' ends before its last block")


FORMATS.register("webdataset")(WebDataset())

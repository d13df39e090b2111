"""MosaicML Streaming shards (MDS, version 2), which `StreamingDataset` reads.

A shard is a uint32 count of samples, the uint32 byte at which each begins and the last one ends, a
JSON of the columns, and the samples. A sample is the uint32 length of each column that has no fixed
one, then all columns, in the order of their names. index.json lists the shards with their sha1.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import read_rows
from vqtok.offline.exports.survey import Classes, Survey, classes_if_any, codes_of, survey
from vqtok.offline.rows import Row
from vqtok.offline.stored import canonical

__all__ = ["Column", "mds"]

SHARD = 1 << 26


class Column(NamedTuple):
    """encoding: as MDS names it; size: in bytes, None where it differs."""

    name: str
    encoding: str
    size: int | None
    data: Callable[[Row], bytes]


@export("mds", what="codes")
def mds(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    classes: str | os.PathLike[str] | None = None,
) -> Told:
    """index.json and shard.<n>.mds: codes, key and view; label and text where the set has them.

    classes  the classes.json of another export, whose numbers these labels are to have
    """
    found = survey(tokens)
    numbers = classes_if_any(found, "mds", classes)
    columns = _columns(tokens, found, numbers)
    config = _config(columns)
    shards: list[dict[str, Any]] = []
    for samples in _shards(tokens, advance, columns):
        data = _shard(samples, config)
        name = f"shard.{len(shards):05d}.mds"
        (folder / name).write_bytes(data)
        shards.append(_told(name, data, len(samples), config))
    (folder / "index.json").write_bytes(canonical({"shards": shards, "version": 2}))
    if numbers is not None:
        numbers.write(folder)
    return {"columns": {column.name: column.encoding for column in columns}}


def _columns(tokens: Tokens, found: Survey, numbers: Classes | None) -> list[Column]:
    """In the order of their names."""
    dtype = tokens.plan.dtype
    columns = [_codes(found, dtype)]
    columns.append(Column("key", "str", None, lambda row: row.key.encode()))
    if numbers is not None:
        columns.append(
            Column("label", "int", 8, lambda row: np.array(numbers[row.label], "<i8").tobytes())
        )
    if found.captioned is not None:
        columns.append(Column("text", "str", None, lambda row: (row.text or "").encode()))
    columns.append(Column("view", "str", None, lambda row: row.view.encode()))
    return columns


def _codes(found: Survey, dtype: str) -> Column:
    """Of a fixed shape where there is one, else each array says its own."""
    stored = np.dtype(dtype).newbyteorder("<")
    if len(found.codes) > 1:
        return Column("codes", f"ndarray:{dtype}", None, lambda row: _array(row, stored, told=True))
    shape = next(iter(found.codes))
    size = int(np.prod(shape)) * stored.itemsize
    encoding = f"ndarray:{dtype}:{','.join(map(str, shape))}"
    return Column("codes", encoding, size, lambda row: _array(row, stored, told=False))


def _array(row: Row, dtype: np.dtype[Any], *, told: bool) -> bytes:
    codes = codes_of(row)
    data = codes.astype(dtype).tobytes()
    return _shape(codes.shape) + data if told else data


def _shape(shape: tuple[int, ...]) -> bytes:
    """One byte of 4 * axes + log2 of the bytes that each side takes, then the sides."""
    width = next(power for power in range(4) if max(shape) < 1 << (8 << power))
    return bytes([len(shape) << 2 | width]) + np.array(shape, f"<u{1 << width}").tobytes()


def _config(columns: list[Column]) -> dict[str, Any]:
    """What both the index and each shard say of the columns."""
    return {
        "column_encodings": [column.encoding for column in columns],
        "column_names": [column.name for column in columns],
        "column_sizes": [column.size for column in columns],
        "compression": None,
        "format": "mds",
        "hashes": ["sha1"],
        "size_limit": SHARD,
        "version": 2,
    }


def _shards(tokens: Tokens, advance: Advance, columns: list[Column]) -> Iterator[list[bytes]]:
    """The samples of each shard."""
    samples: list[bytes] = []
    size = 0
    for row in read_rows(tokens, advance):
        sample = _sample(row, columns)
        if samples and size + len(sample) + 4 > SHARD:
            yield samples
            samples, size = [], 0
        samples.append(sample)
        size += len(sample) + 4
    yield samples


def _sample(row: Row, columns: list[Column]) -> bytes:
    parts = [column.data(row) for column in columns]
    open_ = [len(part) for part, column in zip(parts, columns, strict=True) if column.size is None]
    return np.array(open_, "<u4").tobytes() + b"".join(parts)


def _shard(samples: list[bytes], config: dict[str, Any]) -> bytes:
    told = json.dumps(config, sort_keys=True).encode()
    first = 4 * (len(samples) + 2) + len(told)
    starts = np.cumsum([first, *map(len, samples)])
    head = np.concatenate([[len(samples)], starts]).astype("<u4")
    return b"".join([head.tobytes(), told, *samples])


def _told(name: str, data: bytes, samples: int, config: dict[str, Any]) -> dict[str, Any]:
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    raw = {"basename": name, "bytes": len(data), "hashes": {"sha1": sha1}}
    return {**config, "raw_data": raw, "samples": samples, "zip_data": None}

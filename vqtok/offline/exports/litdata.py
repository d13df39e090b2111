"""litData's token chunks, which `TokensLoader` reads and litGPT trains on.

A chunk is a uint32 count of documents, the uint32 byte at which each begins and the last one ends,
and their ids. index.json lists the chunks. `TokensLoader(block_size)` cuts each chunk into blocks
and drops what is left over, so chunks hold whole rows of one length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import grouped, told_rows
from vqtok.offline.exports.streams import document, dtype_for
from vqtok.offline.exports.survey import check_flat, one_shape, survey
from vqtok.offline.stored import canonical

__all__ = ["litdata"]

# What litdata calls the dtypes of torch that it stores without a header.
KINDS = {
    "uint16": "no_header_tensor:20",
    "int32": "no_header_tensor:16",
    "int64": "no_header_tensor:18",
}
CHUNK = 64 << 20
ONE_LEAF = '[1, {"type": null, "context": null, "children_spec": []}]'


@export("litdata", what="codes")
def litdata(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    dtype: str | None = None,
    end_id: int | None = None,
) -> Told:
    """index.json and chunk-0-<n>.bin; take the length that origin.json tells as block_size.

    dtype   "uint16", "int32" or "int64"; by default the first that all ids fit
    end_id  a token that is put after each row, such as the end-of-document id of a vocabulary
    """
    found = survey(tokens)
    check_flat(tokens, found, "litdata")
    shape = one_shape(found.codes, "litdata", "megatron, mds or webdataset")
    stored = dtype_for(tokens, "litdata", tuple(KINDS), dtype, end_id)
    length = int(np.prod(shape)) + (end_id is not None)
    chunks: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    for documents in _chunks(tokens, folder, advance, stored, end_id, length):
        data = _chunk(documents)
        digest.update(data)
        name = f"chunk-0-{len(chunks)}.bin"
        (folder / name).write_bytes(data)
        chunks.append(_told(name, data, len(documents), length))
    config = _config(stored)
    # The reader drops what it keeps of an older set where this differs; a time is not reproducible.
    index = {"chunks": chunks, "config": config, "updated_at": digest.hexdigest()}
    (folder / "index.json").write_bytes(canonical(index))
    return {"block_size": length, "tokens": length * len(tokens), "dtype": stored}


def _chunks(
    tokens: Tokens, folder: Path, advance: Advance, dtype: str, end_id: int | None, length: int
) -> Iterator[list[bytes]]:
    """The documents of each chunk."""
    most = max(1, (CHUNK - 8) // (length * np.dtype(dtype).itemsize + 4))
    rows = told_rows(tokens, folder, advance)
    return grouped((document(row, dtype, end_id).tobytes() for row in rows), most)


def _chunk(documents: list[bytes]) -> bytes:
    first = 4 * (len(documents) + 2)
    ends = np.cumsum([first, *map(len, documents)])
    head = np.concatenate([[len(documents)], ends]).astype("<u4")
    return b"".join([head.tobytes(), *documents])


def _told(name: str, data: bytes, documents: int, length: int) -> dict[str, Any]:
    return {
        "chunk_bytes": len(data),
        "chunk_size": documents,
        "dim": documents * length,
        "filename": name,
    }


def _config(dtype: str) -> dict[str, Any]:
    return {
        "chunk_bytes": CHUNK,
        "chunk_size": None,
        "compression": None,
        "data_format": [KINDS[dtype]],
        "data_spec": ONE_LEAF,
        "encryption": None,
        "item_loader": "TokensLoader",
    }

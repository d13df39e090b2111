"""Megatron-LM's indexed data set: tokens.bin and tokens.idx; the .bin is nanoGPT's, too.

Each row is one document of one sequence. All numbers are little-endian.

    .bin   the codes of all rows one after the other
    .idx   9 bytes "MMIDIDX\\0\\0" · uint64 1, the version · uint8 what the codes are · uint64
           sequences · uint64 documents + 1 · int32 the length of each sequence · int64 the byte in
           the .bin at which each begins · int64 the first sequence of each document, and the end
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import told_rows
from vqtok.offline.exports.streams import document, dtype_for
from vqtok.offline.exports.survey import check_flat, survey

__all__ = ["megatron"]

MAGIC = b"MMIDIDX\x00\x00"
KINDS = {"uint16": 8, "int32": 4}


@export("megatron", what="codes")
def megatron(
    tokens: Tokens,
    folder: Path,
    advance: Advance,
    *,
    dtype: str | None = None,
    end_id: int | None = None,
) -> Told:
    """tokens.bin and tokens.idx: the path prefix is <out>/tokens.

    dtype   "uint16" or "int32"; by default the first that all ids fit
    end_id  a token that is put after each row, such as the end-of-document id of a vocabulary
    """
    check_flat(tokens, survey(tokens), "megatron")
    stored = dtype_for(tokens, "megatron", tuple(KINDS), dtype, end_id)
    lengths = array("i")
    with (folder / "tokens.bin").open("wb") as out:
        for row in told_rows(tokens, folder, advance):
            ids = document(row, stored, end_id)
            out.write(ids.tobytes())
            lengths.append(len(ids))
    counts = np.array(lengths, "<i4")
    (folder / "tokens.idx").write_bytes(_index(counts, stored))
    return {"documents": len(counts), "tokens": int(counts.sum(dtype=np.int64)), "dtype": stored}


def _index(lengths: npt.NDArray[Any], dtype: str) -> bytes:
    """The .idx file of sequences of these lengths, each a document."""
    ends = np.cumsum(lengths, dtype=np.int64) * np.dtype(dtype).itemsize
    starts = np.concatenate([[0], ends[:-1]]).astype("<i8")
    documents = np.arange(len(lengths) + 1, dtype="<i8")
    head = struct.pack("<QBQQ", 1, KINDS[dtype], len(lengths), len(documents))
    return b"".join([MAGIC, head, lengths.tobytes(), starts.tobytes(), documents.tobytes()])

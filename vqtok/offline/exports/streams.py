"""Rows as documents of a stream of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError, InputError
from vqtok.offline.exports import Tokens
from vqtok.offline.exports.survey import codes_of
from vqtok.offline.rows import Row

__all__ = ["document", "dtype_for"]


def document(row: Row, dtype: str, end_id: int | None) -> npt.NDArray[Any]:
    """A row's codes in raster order (L,), or (L + 1,) with an end."""
    ids = codes_of(row).reshape(-1).astype(np.dtype(dtype).newbyteorder("<"))
    return ids if end_id is None else np.append(ids, ids.dtype.type(end_id))


def dtype_for(
    tokens: Tokens, name: str, known: tuple[str, ...], asked: str | None, end_id: int | None
) -> str:
    """What ids are stored as: the narrowest that the largest fits, or what was asked for.

    known  the dtypes that the trainer reads, narrowest first
    """
    size = tokens.plan.tokenizer.codebook_size
    if end_id is not None and end_id < size:
        raise ConfigError(
            f"end_id is no code: the codes of this tokenizer end at {size - 1}; got {end_id}"
        )
    largest = size - 1 if end_id is None else end_id
    fits = next((kind for kind in known if largest <= np.iinfo(kind).max), None)
    if fits is None:
        raise InputError(
            f"the {name} export stores ids as {' or '.join(known)}, and those of this data set go "
            f"up to {largest}; export to mds or webdataset"
        )
    if asked is None:
        return fits
    if asked not in known:
        raise ConfigError(
            f"the {name} export stores ids as {' or '.join(known)}; got dtype={asked!r}"
        )
    if largest > np.iinfo(asked).max:
        raise ConfigError(f"ids go up to {largest}, which {asked} cannot hold; take dtype={fits!r}")
    return asked

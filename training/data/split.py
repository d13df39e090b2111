"""Which samples are trained on, and which are looked at to see how good that was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import ConfigError
from vqtok.sources import Source, held_out, open_source
from vqtok.training.data.loader import check_frames
from vqtok.training.settings import Data

__all__ = ["Split", "split_of"]

# Held out where nobody says how many: this share, up to so many.
SHARE, MOST = 0.05, 1000


class Split(NamedTuple):
    """Two sets of samples, by their numbers in their sources."""

    source: Source
    train: npt.NDArray[np.int64]
    validation_source: Source
    validation: npt.NDArray[np.int64]
    apart: bool  # whether no sample is in both


def split_of(data: Data) -> Split:
    """Opens what `data` names.

    Validation samples are those with the smallest sha256 of their keys: of `validation`, or of
    `path` itself, whose others are then trained on. With none to spare, they are the same.
    """
    if data.path is None:
        raise ConfigError("data.path is not set: where the pictures or clips are that train")
    source = _opened(data.path, data)
    if data.validation is not None:
        other = _opened(data.validation, data)
        wanted = min(len(other), MOST if data.hold_out is None else data.hold_out)
        if not wanted:
            raise ConfigError(
                "data.validation names samples to validate on, and data.hold_out=0 takes none of "
                "them; leave one of the two out"
            )
        chosen = held_out(other.keys, wanted)[1] if wanted < len(other) else np.arange(len(other))
        return Split(source, np.arange(len(source)), other, chosen, True)
    count = data.hold_out
    if count is None:
        count = min(MOST, int(SHARE * len(source)))
    train, held = held_out(source.keys, count)
    if len(held):
        return Split(source, train, source, held, True)
    return Split(source, train, source, train[:MOST], False)


def _opened(path: str | list[str], data: Data) -> Source:
    source = open_source(path, data.kind)
    check_frames(source, data)
    return source

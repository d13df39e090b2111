"""The lines that `vqtok encode` writes and `vqtok decode` reads."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError, LoadError, MismatchError
from vqtok.movies import FASTEST, SLOWEST, is_rate
from vqtok.tokenizer import VisualTokenizer
from vqtok.traits import check_sizes
from vqtok.types import Codes

__all__ = ["Reader", "Row", "line"]


class Row(NamedTuple):
    """A picture's or clip's codes under its key, and a clip's frames a second where known."""

    key: str
    codes: Codes
    fps: float | None = None


def line(row: Row, precision: str) -> str:
    """A line of JSON.

    `size` in pixels, heights first, of a clip the number of frames before them; `grid` in codes, of
    codes that are one sequence its length, with `scales` where it is made of several grids; `fps`
    of a clip that has one; codes row by row.
    """
    key, codes, fps = row
    fields = {
        "key": key,
        "size": codes.sizes[0].tolist(),
        "grid": list(codes.grid),
        **({"scales": list(map(list, codes.scales))} if codes.scales else {}),
        **({} if fps is None else {"fps": fps}),
        "codebook": codes.codebook,
        "precision": precision,
        "codes": codes.ids[0].tolist(),
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


class Reader:
    """Lines of one file -> rows that a tokenizer decodes; errors name file and line."""

    def __init__(self, tok: VisualTokenizer, source: str) -> None:
        self.tok = tok
        self.source = source

    def row(self, number: int, text: bytes) -> Row:
        """Line `number`, counted from 1."""
        where = f"{self.source}, line {number}"
        fields = _fields(where, text)
        where += f" ({fields['key']})"
        self._check_codebook(where, fields["codebook"])
        try:
            return Row(fields["key"], self._codes(fields), _rate(fields.get("fps")))
        except (TypeError, ValueError, OverflowError) as error:
            raise CodesError(f"{where}: {error}") from None

    def _check_codebook(self, where: str, made_with: str) -> None:
        own = self.tok.fingerprint.codebook
        if made_with not in ("", own):
            raise MismatchError(
                f"{where}: these codes were made with the codebook {made_with[:16]} and cannot be "
                f"decoded by a tokenizer whose codebook is {own[:16]}"
            )

    def _codes(self, fields: dict[str, Any]) -> Codes:
        depth, axes = self.tok.vocab.depth, self.tok.grid_axes
        codes = Codes(
            _ids(fields["codes"]),
            _size(fields["size"], clip=self.tok.is_video),
            self.tok.codebook_size,
            fields["codebook"],
            depth,
            _scales(fields.get("scales", [])),
        )
        if len(codes.grid) != axes or not codes.ids.size or list(codes.grid) != fields["grid"]:
            names = ["t", "h", "w"][-axes:] if axes > 1 else ["L"]
            shape = ", ".join([*names, str(depth)] if depth else names)
            raise CodesError(
                f"codes have the shape ({shape}) and their grid is ({', '.join(names)}); got the "
                f"shape {codes.ids.shape[1:]} and the grid {fields['grid']}"
            )
        check_sizes(codes, self.tok.codec.traits)
        return codes


def _ids(codes: list[Any]) -> npt.NDArray[Any]:
    """A batch of one; whether these are ids, `Codes` says."""
    try:
        return np.array([codes])
    except ValueError:
        raise CodesError("'codes' are rows of one length, and these are not") from None


def _size(size: list[Any], *, clip: bool) -> npt.NDArray[np.int32]:
    """[height, width], or [frames, height, width] of a clip -> a batch of one."""
    array = np.array([size])
    whole = array.shape == (1, 2 + clip) and array.dtype.kind in "iu"
    if not whole or not 0 <= int(array.min()) <= int(array.max()) < 1 << 31:
        shape = f"[{'frames, ' * clip}height, width]"
        raise CodesError(f"'size' is {shape}, in whole numbers; got {size!r:.60}")
    return array.astype(np.int32)


def _scales(scales: Any) -> tuple[tuple[int, int], ...]:
    """The heights and widths of several grids, coarse to fine."""
    array = np.array(scales, np.int64) if scales else np.zeros((0, 2), np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or (array < 1).any():
        raise CodesError(f"'scales' are a list of [height, width]; got {scales!r:.60}")
    return tuple((height, width) for height, width in array.tolist())


def _rate(fps: Any) -> float | None:
    if fps is None:
        return None
    if not is_rate(fps):
        raise CodesError(f"'fps' is a number from {SLOWEST} to {FASTEST}; got {fps!r:.60}")
    return float(fps)


KINDS = {"key": str, "size": list, "grid": list, "codebook": str, "codes": list}


def _fields(where: str, text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{where} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise LoadError(
            f"{where} is a {type(fields).__name__}; a line of `vqtok encode` is an object"
        )
    for name, kind in KINDS.items():
        if name not in fields:
            raise LoadError(f"{where} has no {name!r}, which a line of `vqtok encode` has")
        if not isinstance(fields[name], kind):
            raise LoadError(f"{where}: {name!r} is a {kind.__name__}; got {fields[name]!r:.60}")
    return fields

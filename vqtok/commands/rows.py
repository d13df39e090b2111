"""The lines that `vqtok encode` writes and `vqtok decode` reads."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from vqtok.errors import CodesError, LoadError, MismatchError
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

__all__ = ["Reader", "Row", "line"]


class Row(NamedTuple):
    """A picture's codes under its key."""

    key: str
    codes: Codes


def line(row: Row, precision: str) -> str:
    """A line of JSON: `size` in pixels and `grid` in codes, heights first; codes row by row."""
    key, codes = row
    fields = {
        "key": key,
        "size": codes.sizes[0].tolist(),
        "grid": list(codes.grid),
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
            return Row(fields["key"], self._codes(fields))
        except (ValueError, OverflowError) as error:
            raise CodesError(f"{where}: {error}") from None

    def _check_codebook(self, where: str, made_with: str) -> None:
        own = self.tok.fingerprint.codebook
        if made_with not in ("", own):
            raise MismatchError(
                f"{where}: these codes were made with the codebook {made_with[:16]} and cannot be "
                f"decoded by a tokenizer whose codebook is {own[:16]}"
            )

    def _codes(self, fields: dict[str, Any]) -> Codes:
        size = np.array([fields["size"]], np.int32)
        depth = self.tok.vocab.depth
        codes = Codes(
            np.array([fields["codes"]]), size, self.tok.codebook_size, fields["codebook"], depth
        )
        if len(codes.grid) != 2 or not codes.ids.size or list(codes.grid) != fields["grid"]:
            shape = "(h, w" + (f", {depth})" if depth else ")")
            raise CodesError(
                f"codes have the shape {shape} and their grid is (h, w); got the shape "
                f"{codes.ids.shape[1:]} and the grid {fields['grid']}"
            )
        return codes


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

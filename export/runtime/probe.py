"""Whether graphs give here the ids that torch gave where they were exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqtok.errors import LoadError, MismatchError
from vqtok.verdicts import ProbeResult

if TYPE_CHECKING:
    from vqtok.export.runtime.codec import OnnxCodec

__all__ = ["SCHEMA", "agreement", "check", "verified"]

SCHEMA = "vqtok-onnx-probe/1"
NAMES = ("pixels", "codes", "ties")
# What the share of equal ids may fall by below what was measured where the graphs were exported, on
# a CPU: other machines round otherwise, and of half precision that is much.
SLACK = 0.2
Arrays = dict[str, npt.NDArray[Any]]


def check(codec: OnnxCodec, file: Path) -> ProbeResult:
    """Compares ids with those in a probe; "unchecked" where there is none.

    "refused" where an id differs that is no near tie. Another precision than float32 rounds much
    more, so that what is one is not known: whatever differs is counted, and refused where far more
    does than where the graphs were exported.
    """
    return _result(codec, _compared(codec, file)) if file.is_file() else ProbeResult("unchecked")


def verified(codec: OnnxCodec, file: Path) -> ProbeResult:
    """As `check`; `MismatchError` with both shares where too few of half precision are equal."""
    if not file.is_file():
        return ProbeResult("unchecked")
    compared = _compared(codec, file)
    result = _result(codec, compared)
    if result.verdict == "refused" and codec.precision != "ieee32":
        raise MismatchError(
            f"the tokenizer in '{codec.folder}' does not compute here what it did where it was "
            f"exported: {compared.share:.1%} of the probe's ids that are no near ties are equal to "
            f"torch's, and {codec.agreement:.1%} were there"
        )
    return result


def agreement(codec: OnnxCodec, file: Path) -> float:
    """Of a probe's ids that are no near ties, the share that is equal to torch's."""
    return _compared(codec, file).share


class _Compared(NamedTuple):
    """Which ids of a probe differ, and which may."""

    moved: npt.NDArray[np.bool_]
    ties: npt.NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Of ids that are no near ties those that are equal; 1 where there are none."""
        decided = ~self.ties
        return 1 - float((self.moved & decided).sum()) / max(1, int(decided.sum()))


def _result(codec: OnnxCodec, compared: _Compared) -> ProbeResult:
    moved, ties = compared
    if codec.precision == "ieee32":
        refused, near = bool((moved & ~ties).any()), int((moved & ties).sum())
    else:
        least = 0.0 if codec.agreement is None else codec.agreement - SLACK
        refused, near = compared.share < least, int(moved.sum())
    return ProbeResult(
        verdict="refused" if refused else "near ties" if near else "exact",
        tokens=moved.size,
        ids_equal=int((~moved).sum()),
        near_ties=near,
        latent_error=None,
    )


def _compared(codec: OnnxCodec, file: Path) -> _Compared:
    stored = _read(file)
    ids = codec.encode(stored["pixels"]).ids
    if ids.shape != stored["codes"].shape:
        raise MismatchError(
            f"{file} belongs to another model: its codes have the shape {stored['codes'].shape}, "
            f"these graphs' {ids.shape}"
        )
    moved, ties = ids != stored["codes"], stored["ties"]
    if moved.ndim > ties.ndim:  # several codes a token
        ties = ties[..., None]
    return _Compared(moved, np.broadcast_to(ties, moved.shape))


def _read(file: Path) -> Arrays:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as stored:
            schema = (stored.metadata() or {}).get("schema")
            if schema != SCHEMA:
                raise LoadError(f"{file} has the schema {schema!r}; this version reads {SCHEMA!r}")
            return {name: stored.get_tensor(name) for name in NAMES}
    except SafetensorError as error:
        raise LoadError(f"{file} is not a readable probe: {error}") from error

"""Whether a row is what the encoder makes of its pixels now, but for rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vqtok.errors import MismatchError
from vqtok.offline.remake import stored_latents
from vqtok.probe import LATENT_BOUND
from vqtok.types import Codes

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.rows import Row
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Outcome", "compare"]

# What honest runs of each arithmetic may move a latent by on another machine, in units of their
# rms. An id that differs where the latent is that near to another code is a near tie.
BOUNDS = {"ieee32": LATENT_BOUND, "tf32": 1e-2, "fp16": 1e-2, "bf16": 1e-1}
STEP = 2.0**-10  # from one float16 to the next, at most, in units of the number


class Outcome(NamedTuple):
    """How a row came out.

    ties      ids that differ, all of them near ties
    rounded   whether its latents differ by rounding
    unjudged  ids that differ by nobody knows how much, for there are no latents
    """

    ties: int = 0
    rounded: bool = False
    unjudged: int = 0


def compare(
    row: Row,
    latents: npt.NDArray[np.float32] | None,
    codes: Codes,
    plan: Plan,
    tokenizer: VisualTokenizer,
) -> Outcome:
    """A row, and the latents (1, D, *grid) and codes of its pixels; a `MismatchError` if it's off.

    Which code a near tie falls to is not asked: of two that are equally near either may come.

    latents  None of a tokenizer that gives none, in a set without them
    """
    moved = None if row.codes is None else _moved(row.codes, codes)
    if latents is None:
        return Outcome(unjudged=0 if moved is None else int(moved.sum()))
    ties = 0 if moved is None else _ties(moved, latents, tokenizer)
    stored = stored_latents(row)
    if stored is None:
        return Outcome(ties)
    if plan.quantized:
        if ties:  # another code has another vector
            return Outcome(ties, True)
        latents = tokenizer.latents(codes)[0][None].float().cpu().numpy()
    bound = max(BOUNDS[plan.tokenizer.precision], STEP)
    return Outcome(ties, _rounded(stored, latents[0].astype(np.float16), bound))


def _moved(stored: npt.NDArray[Any], codes: Codes) -> npt.NDArray[np.bool_]:
    """Which ids differ."""
    found = codes.ids[0]
    if found.shape != stored.shape:
        raise MismatchError(f"its codes are {stored.shape}, those of the source {found.shape}")
    moved: npt.NDArray[np.bool_] = found != stored
    return moved


def _ties(
    moved: npt.NDArray[np.bool_], latents: npt.NDArray[np.float32], tokenizer: VisualTokenizer
) -> int:
    if not moved.any():
        return 0
    near = _near(latents, tokenizer)
    beyond = int((moved & ~(near[..., None] if moved.ndim > near.ndim else near)).sum())
    if beyond:
        raise MismatchError(
            f"{int(moved.sum())} of its {moved.size} ids differ, {beyond} of them beyond a near tie"
        )
    return int(moved.sum())


@torch.no_grad()
def _near(latents: npt.NDArray[np.float32], tokenizer: VisualTokenizer) -> npt.NDArray[np.bool_]:
    """(1, D, *grid) -> (*grid): where rounding may give another id."""
    vectors = torch.from_numpy(latents).to(tokenizer.device)
    bound = BOUNDS[tokenizer.precision] * vectors.square().mean().sqrt()
    near: npt.NDArray[np.bool_] = (
        (tokenizer.model.quantize.margin(vectors) <= bound)[0].cpu().numpy()
    )
    return near


def _rounded(stored: npt.NDArray[Any], found: npt.NDArray[Any], bound: float) -> bool:
    if found.shape != stored.shape:
        raise MismatchError(f"its latents are {stored.shape}, those of the source {found.shape}")
    if np.array_equal(found, stored):
        return False
    here, there = found.astype(np.float64), stored.astype(np.float64)
    off = float(np.sqrt(np.square(there - here).mean() / max(np.square(here).mean(), 1e-30)))
    if not off <= bound:  # nor where it is not a number
        raise MismatchError(f"its latents are off by {off:.1e} of their rms")
    return True

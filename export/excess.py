"""Ids of two codecs side by side: how many are equal, and how near a tie each other one is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vqtok.probe import LATENT_BOUND
from vqtok.quantizers import Quantizer

__all__ = ["LISTED", "MARGIN", "TIE", "Flip", "Ids", "flips_of"]

# Up to this excess of distance, relative, an id that differs is a near tie: honest float32 runs
# make latents that differ by 2e-7 to 9e-7 of their rms.
TIE = 1e-5
# And up to this margin, in units of the latents' rms; what `vqtok.probe` allows honest runs. Excess
# alone says little where one of many dimensions decides, for it is a share of the whole distance.
MARGIN = LATENT_BOUND
# Flips that a report lists; of more it tells how many there are.
LISTED = 1000

# Codes so near to each other, in the same units, are as good as one: which of them is chosen hangs
# on the rounding of their distances, however far off the face between them lies.
CROWD = 1e-3

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Flip:
    """An id that differs.

    position  in the codes of that picture or clip: (h, w), (t, h, w), with the axis Q, or (L,)
    excess    by what share the vector is farther from the code of `onnx` than from the nearest,
              where the quantizer compares them, of torch's latents in float64; None: infinitely
    margin    how far torch's vector must move to change its id, in units of the latents' rms
    apart     how far the vectors of both codes are apart, in the same units; None where codes of
              several scales make a vector together
    after     whether an id before it, of that token or of a coarser scale, differs as well
    """

    picture: str
    size: tuple[int, ...]
    batch: int
    position: tuple[int, ...]
    torch: int
    onnx: int
    excess: float | None
    margin: float
    apart: float | None
    after: bool

    @property
    def is_tie(self) -> bool:
        """Whether it is explained by rounding."""
        near = self.margin <= MARGIN or (self.apart is not None and self.apart <= CROWD)
        return self.excess is not None and self.excess <= TIE and near


@dataclass
class Ids:
    """A tally: `count` ids, of which those in `flips` and `unlisted` more differ.

    after     of the differing, how many come after another one and need not agree
    far       of the differing, how many are no near ties
    worst     the differing id with the greatest excess; one that is no near tie, if there is one
    excess    the greatest
    seen      the ids that torch gave
    overflow  of `rows` pictures, how many have no ids, for their latents are not finite in a graph
    """

    count: int = 0
    differing: int = 0
    after: int = 0
    far: int = 0
    worst: Flip | None = None
    excess: float = 0.0
    seen: set[int] = field(default_factory=set)
    rows: int = 0
    overflow: int = 0
    flips: list[Flip] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        """The share of ids that are equal."""
        return 1 - self.differing / max(1, self.count)

    @property
    def decided(self) -> float:
        """The share of ids that are equal, or differ only after another one did."""
        return 1 - (self.differing - self.after) / max(1, self.count)

    def add(self, found: Sequence[Flip], ids: Array) -> None:
        """Of one batch: torch's ids (N, ...), and those that differ."""
        self.count += ids.size
        self.rows += len(ids)
        self.seen.update(np.unique(ids).tolist())
        self.differing += len(found)
        self.after += sum(flip.after for flip in found)
        self.far += sum(not flip.is_tie for flip in found)
        known = [] if self.worst is None else [self.worst]
        self.worst = max([*known, *found], key=lambda f: (not f.is_tie, _how_far(f)), default=None)
        self.excess = max([self.excess, *map(_how_far, found)])
        self.flips += found[: LISTED - len(self.flips)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ids": self.count,
            "equal": self.count - self.differing,
            "agreement": self.agreement,
            "differing": self.differing,
            "after_another": self.after,
            "no_near_tie": self.far,
            "greatest_excess": _finite(self.excess),
            "overflowing": self.overflow,
            "unlisted": self.differing - len(self.flips),
            "flips": [asdict(flip) for flip in self.flips],
        }


def _how_far(flip: Flip) -> float:
    return math.inf if flip.excess is None else flip.excess


def flips_of(
    quantizer: Quantizer,
    latents: npt.NDArray[np.float32],
    ours: Array,
    theirs: Array,
    keys: Sequence[str],
    size: tuple[int, ...],
) -> list[Flip]:
    """Latents (N, D, *grid), and two codes of them (N, *grid[, Q]) or (N, L) -> what differs."""
    differ = ours != theirs
    rows = differ.reshape(len(differ), -1).any(1).nonzero()[0]
    if not len(rows):
        return []
    z = torch.from_numpy(latents[rows])
    rms = float(np.sqrt(np.square(latents).mean()))
    excess = quantizer.excess(z, torch.from_numpy(theirs[rows].astype(np.int64))).numpy()
    with torch.no_grad():
        margin = quantizer.margin(z).numpy() / rms
    if quantizer.depth:
        margin = np.broadcast_to(margin[..., None], excess.shape)
    scaled = ours.ndim < latents.ndim - 1
    after = _after(differ[rows], quantizer, latents.shape[2:])
    return [
        Flip(
            picture=keys[rows[at[0]]],
            size=size,
            batch=len(ours),
            position=tuple(map(int, at[1:])),
            torch=int(ours[rows][tuple(at)]),
            onnx=int(theirs[rows][tuple(at)]),
            excess=_finite(excess[tuple(at)]),
            margin=float(margin[tuple(at)]),
            apart=None if scaled else _apart(quantizer, ours[rows], theirs[rows], at, rms),
            after=bool(after[tuple(at)]),
        )
        for at in np.argwhere(differ[rows])
    ]


def _apart(quantizer: Quantizer, ours: Array, theirs: Array, at: Array, rms: float) -> float:
    """See `Flip.apart`."""
    place = tuple(at[:-1]) if quantizer.depth else tuple(at)
    pair = np.stack([ours[place], ours[place]]).astype(np.int64)
    pair[(1, at[-1]) if quantizer.depth else 1] = theirs[tuple(at)]
    one, other = quantizer.vectors(torch.from_numpy(pair)).detach().double()
    return float((one - other).norm()) / rms


def _finite(excess: float) -> float | None:
    return float(excess) if math.isfinite(excess) else None


def _after(differ: npt.NDArray[np.bool_], quantizer: Quantizer, grid: Sequence[int]) -> Array:
    """Which ids (N, *grid[, Q]) or (N, L) have one before them, of theirs, that differs."""
    after = np.zeros_like(differ)
    if quantizer.depth:
        after[..., 1:] = np.logical_or.accumulate(differ, -1)[..., :-1]
        return after
    start = 0
    for height, width in quantizer.scales_of(grid):
        after[:, start : start + height * width] = differ[:, :start].any(1, keepdims=True)
        start += height * width
    return after

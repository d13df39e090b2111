"""Graphs beside the model that they were made of: id by id, and byte by byte of pixels.

The contract of an export. Torch's ids are float32 products' (`vqtok.precision`), and a runtime's
may differ from them where a vector lies between two codes, and nowhere else: so each id that
differs must be a near tie by torch's own latents, and there may be but few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.codec import TorchCodec
from vqtok.errors import CodesError, MismatchError
from vqtok.export.excess import MARGIN, TIE, Flip, Ids, flips_of
from vqtok.export.networks import NOT_FINITE
from vqtok.export.pictures import Batch
from vqtok.metrics.pixels import decibels
from vqtok.types import Codec

__all__ = ["BOUNDS", "Bounds", "Comparison", "Pixels", "asked", "bounds_of", "compare"]

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Bounds:
    """What graphs must keep. None: nothing is asked.

    dtype      of the arithmetic, for messages
    agreement  the least share of equal ids, those left out that come after another that differs
    excess     the most that each differing id may be farther than the nearest, relative
    off        the most that a byte of pixels may be off
    share_off  the most of bytes that may be off
    psnr       the least ratio of decoded pixels to torch's, in dB
    """

    dtype: str
    agreement: float | None = None
    excess: float | None = None
    off: int | None = None
    share_off: float | None = None
    psnr: float | None = None


# By the arithmetic of encoder and decoder. Float16 was measured to leave .94 to .97 of ids; far
# less than that is no rounding. Nor is what is under 30 dB.
BOUNDS = {
    "encoder": {
        "fp32": Bounds("fp32", agreement=0.999, excess=TIE),
        "fp16": Bounds("fp16", agreement=0.8),
    },
    "decoder": {
        "fp32": Bounds("fp32", off=1, share_off=0.01),
        "fp16": Bounds("fp16", psnr=30.0),
    },
}
ROUGH_PSNR = 30.0
# Of a codebook that no arithmetic but torch's own could keep the ids of.
CROWDED = (
    ", though each is a near tie: many codes of this codebook are as good as equal, so that "
    "rounding alone decides between them; train it on, or with another start"
)


@dataclass
class Pixels:
    """A tally of bytes, those of the model beside those of a graph."""

    count: int = 0
    equal: int = 0
    most: int = 0
    total: int = 0  # of differences
    squares: int = 0

    def add(self, ours: Array, theirs: Array) -> None:
        """Two batches of one shape."""
        apart = np.abs(ours.astype(np.int64) - theirs)
        self.count += apart.size
        self.equal += int((apart == 0).sum())
        self.most = max(self.most, int(apart.max(initial=0)))
        self.total += int(apart.sum())
        self.squares += int(np.square(apart).sum())

    @property
    def share_equal(self) -> float:
        """Of bytes."""
        return self.equal / max(1, self.count)

    @property
    def psnr(self) -> float:
        """In dB; infinite where all are equal."""
        return float(decibels(self.squares / max(1, self.count)))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bytes": self.count,
            "equal": self.equal,
            "share_equal": self.share_equal,
            "max_abs": self.most,
            "mean_abs": self.total / max(1, self.count),
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
        }


@dataclass
class Comparison:
    """All that was compared, and of each size and batch how much.

    runs  rows of JSON, one for each batch of a number of pictures in a size
    """

    ids: Ids = field(default_factory=Ids)
    pixels: Pixels = field(default_factory=Pixels)
    runs: dict[tuple[tuple[int, ...], int], tuple[Ids, Pixels]] = field(default_factory=dict)

    def faults(self, encoder: Bounds, decoder: Bounds) -> list[str]:
        """What is beyond bounds, a sentence's part each."""
        return [*self._wrong_ids(encoder), *self._wrong_pixels(decoder)]

    def _wrong_ids(self, bounds: Bounds) -> Iterable[str]:
        ids = self.ids
        if ids.overflow:
            yield (
                f"{ids.overflow:,} of {ids.rows + ids.overflow:,} pictures overflow in "
                f"{bounds.dtype} and have no ids"
            )
        if bounds.agreement is not None and ids.decided < bounds.agreement:
            yield (
                f"{ids.differing - ids.after:,} of {ids.count:,} ids differ, which leaves "
                f"{ids.decided:.3%} and not {bounds.agreement:.1%}{CROWDED * (not ids.far)}"
            )
        if bounds.excess is not None and ids.far and (worst := ids.worst):
            yield (
                f"{ids.far:,} of the ids that differ are no near ties: in {worst.picture!r}, at "
                f"{worst.position}, {_why(worst, bounds.excess)} is rounding"
            )

    def _wrong_pixels(self, bounds: Bounds) -> Iterable[str]:
        pixels = self.pixels
        if bounds.off is not None and pixels.most > bounds.off:
            yield f"decoded pixels are off by up to {pixels.most} of 255, and not {bounds.off}"
        off = 1 - pixels.share_equal
        if bounds.share_off is not None and off > bounds.share_off:
            yield f"{off:.2%} of decoded bytes are off, and not {bounds.share_off:.0%}"
        if bounds.psnr is not None and pixels.psnr < bounds.psnr:
            yield f"decoded pixels have {pixels.psnr:.1f} dB to torch's, and not {bounds.psnr:.0f}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        runs = [
            {
                "size": list(size),
                "batch": batch,
                "ids": ids.count,
                "equal": ids.count - ids.differing,
                "no_near_tie": ids.far,
                "max_abs": pixels.most,
                "share_equal": pixels.share_equal,
            }
            for (size, batch), (ids, pixels) in self.runs.items()
        ]
        return {"encoder": self.ids.to_dict(), "decoder": self.pixels.to_dict(), "runs": runs}


def _why(flip: Flip, excess: float) -> str:
    """Why an id is no near tie, and what would be one."""
    if flip.excess is not None and flip.excess <= excess:
        return (
            f"where {flip.torch} became {flip.onnx}, the vector would have to move by "
            f"{flip.margin:.1e} of the latents' rms to change its id, and {MARGIN:.0e}"
        )
    beyond = "infinitely" if flip.excess is None else f"by {flip.excess:.1e} of it"
    return (
        f"the code {flip.onnx} is {beyond} farther from the vector than {flip.torch}, and "
        f"{excess:.0e}"
    )


def bounds_of(dtype: str, decoder_dtype: str, *, rough: bool = False) -> tuple[Bounds, Bounds]:
    """Those of an encoder and of a decoder.

    rough  asks nothing of ids but float32's, for somebody accepts others
    """
    encoder = BOUNDS["encoder"].get(dtype, Bounds(dtype))
    if rough and dtype != "fp32":
        encoder = Bounds(dtype)
    return encoder, BOUNDS["decoder"].get(decoder_dtype, Bounds(decoder_dtype, psnr=ROUGH_PSNR))


def compare(
    ours: TorchCodec,
    theirs: Codec,
    batches: Iterable[Batch],
    advance: Callable[[int], None] = lambda rows: None,
) -> Comparison:
    """Each batch through both: pixels to ids, and torch's ids to pixels.

    advance  is called with the rows that are done
    """
    done = Comparison()
    for batch in batches:
        _compare(ours, theirs, batch, done)
        advance(len(batch.keys))
    return done


def _compare(ours: TorchCodec, theirs: Codec, batch: Batch, done: Comparison) -> None:
    latents, codes = ours.encode_latents(batch.pixels)
    found = _encoded(theirs, batch.pixels, codes.ids)
    _check_shapes("codes", codes.ids.shape, found.shape)
    whole = (found != NOT_FINITE).reshape(len(found), -1).all(1)
    keys = [key for key, there in zip(batch.keys, whole, strict=True) if there]
    own = codes.ids[whole]
    flips = flips_of(
        ours.model.quantize, latents[whole], own, found[whole], keys, tuple(batch.size)
    )
    back, again = ours.decode(codes), theirs.decode(codes)
    _check_shapes("pixels", back.shape, again.shape)
    run = done.runs.setdefault((tuple(batch.size), len(batch.keys)), (Ids(), Pixels()))
    for ids, pixels in ((done.ids, done.pixels), run):
        ids.add(flips, own)
        ids.overflow += int((~whole).sum())
        pixels.add(back, again)


def _encoded(theirs: Codec, pixels: Array, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Ids; `NOT_FINITE` all over those of a picture that a graph has none for."""
    try:
        return theirs.encode(pixels).ids
    except CodesError as error:
        if f"got some from {NOT_FINITE} to" not in str(error):
            raise
        if len(pixels) == 1:
            return np.full_like(like, NOT_FINITE)
    rows = zip(np.split(pixels, len(pixels)), np.split(like, len(like)), strict=True)
    return np.concatenate([_encoded(theirs, row, own) for row, own in rows])


def _check_shapes(what: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    if ours != theirs:
        raise MismatchError(
            f"the graphs give {what} of the shape {theirs}, and the model of {ours}"
        )


def asked(bounds: tuple[Bounds, Bounds]) -> dict[str, Any]:
    """For JSON: what was to be kept."""
    encoder, decoder = (
        {name: value for name, value in asdict(one).items() if value is not None} for one in bounds
    )
    return {"encoder": encoder, "decoder": decoder}

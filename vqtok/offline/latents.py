"""Batches of pixels to codes, latents or both, a row at a time where one of them cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vqtok.autoencoders.building import execution_device
from vqtok.codec import TorchCodec
from vqtok.errors import LoadError, VqtokError
from vqtok.offline.batching import Batch
from vqtok.offline.decode import reason_of
from vqtok.offline.plan import Plan
from vqtok.offline.records import Stage
from vqtok.pictures import Pixels
from vqtok.types import Codec, Codes

__all__ = ["Encoded", "Encoding", "Lost", "halved", "refusal"]

LARGEST = 65504.0  # of float16
# What torch says where the CPU's memory ends, and ONNX Runtime anywhere.
FULL = ("DefaultCPUAllocator", "Failed to allocate memory")
Both = tuple[Codes, npt.NDArray[np.float32] | None]


class Lost(NamedTuple):
    """A row that the model, or float16, could not take."""

    row: int
    stage: Stage
    reason: str


class Encoded(NamedTuple):
    """What rows of one shape became.

    rows     their numbers in the shard
    ids      (n, *grid[, Q]) in the plan's dtype, or None
    latents  (n, D, *grid) float16, or None
    """

    rows: list[int]
    grid: tuple[int, ...]
    scales: tuple[tuple[int, int], ...]
    ids: npt.NDArray[Any] | None
    latents: npt.NDArray[np.float16] | None
    lost: list[Lost]


class Encoding:
    """Encodes as a plan has it. Latents need a codec on torch."""

    def __init__(self, codec: Codec, plan: Plan) -> None:
        self._codec: Any = codec
        self._plan = plan
        self._dtype = np.dtype(plan.dtype).newbyteorder("<")

    def __call__(self, batch: Batch) -> list[Encoded]:
        """One entry, or one a row where the model refuses the batch."""
        try:
            return [self.of(batch.rows, batch.places, *self._both(batch.pixels))]
        except VqtokError:
            return [
                self._alone(batch, *pair) for pair in zip(batch.rows, batch.places, strict=True)
            ]
        except Exception as error:
            if self._plan.batch == 1:
                return [_refused(batch.rows[0], refusal(error))]
            if not _is_full(error):
                raise
            raise LoadError(
                f"{_device(self._codec)} has not enough memory for batches of {self._plan.batch} "
                f"rows of {' x '.join(map(str, batch.pixels.shape[1:-1]))} pixels; make a data set "
                "with a smaller batch (--batch), or take a larger device"
            ) from error

    def of(
        self,
        rows: list[int],
        places: list[int],
        codes: Codes,
        latents: npt.NDArray[np.float32] | None,
    ) -> Encoded:
        """Codes and latents of a batch -> those of the places that rows lie in."""
        half, lost = None, list[Lost]()
        if latents is not None:
            half, lost = halved(latents[places], rows)
            gone = {each.row for each in lost}
            kept = [number for number, row in enumerate(rows) if row not in gone]
            if lost:
                half = half[kept]
                rows, places = [rows[n] for n in kept], [places[n] for n in kept]
        ids = codes.ids[places].astype(self._dtype) if self._plan.with_codes else None
        return Encoded(rows, codes.grid, codes.scales, ids, half, lost)

    def latents_with(
        self, encode: Callable[[], Codes], both: Callable[[], tuple[npt.NDArray[np.float32], Codes]]
    ) -> Both:
        """Codes, and the latents that the plan wants."""
        if self._plan.with_latents and not self._plan.quantized:
            latents, codes = both()
            return codes, latents
        codes = encode()
        if not self._plan.with_latents:
            return codes, None
        return codes, self._codec.latents(codes).float().cpu().numpy()

    def _both(self, pixels: Pixels) -> Both:
        codec = self._codec
        return self.latents_with(lambda: codec.encode(pixels), lambda: codec.encode_latents(pixels))

    def _alone(self, batch: Batch, row: int, place: int) -> Encoded:
        try:
            return self.of([row], [place], *self._both(batch.alone(place)))
        except VqtokError as error:
            return _refused(row, reason_of(error))


def _device(codec: Codec) -> Any:
    """Where it computes."""
    return execution_device(codec.model) if isinstance(codec, TorchCodec) else codec.device


def refusal(error: Exception) -> str:
    """Why a model did not take one row, where that costs no other; else it raises the error."""
    if isinstance(error, getattr(torch, "AcceleratorError", ())):  # no more can be done with it
        raise error
    if not _is_full(error):
        return reason_of(error)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return "the device has not enough memory for it"  # how much there is differs


def _is_full(error: Exception) -> bool:
    """Whether memory is what there was not enough of."""
    full = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return full or any(text in str(error) for text in FULL)


def _refused(row: int, reason: str) -> Encoded:
    return Encoded([], (), (), None, None, [Lost(row, "encode", reason)])


def halved(
    latents: npt.NDArray[np.float32], rows: list[int]
) -> tuple[npt.NDArray[np.float16], list[Lost]]:
    """As float16, and the rows that have values beyond it."""
    with np.errstate(over="ignore"):
        half = latents.astype("<f2")
    flat = half.reshape(len(half), -1)
    lost = []
    for number in np.flatnonzero(~np.isfinite(flat).all(1)).tolist():
        most = float(np.abs(latents[number]).max())
        reason = f"a latent of {most:g} is beyond float16, whose largest number is {LARGEST:g}"
        lost.append(Lost(rows[number], "overflow", reason))
    return half, lost

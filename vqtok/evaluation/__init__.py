"""How good a tokenizer is on a set of pictures or clips, from sums that add up exactly.

`evaluate` runs a model over batches; `Evaluation` is for those who run it themselves, such as a
training loop: a batch at a time, the sums of several processes joined by `merge`. Everything is
compared as uint8 against uint8. Figures depend neither on the size nor on the order of batches,
up to the rounding of float64 sums and of the networks that some figures look through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from vqtok.errors import ImageError, InputError, MismatchError
from vqtok.evaluation.batch import Batch, as_frames
from vqtok.evaluation.chosen import Metrics, WeightFiles, choose
from vqtok.evaluation.parts import PARTS, Part
from vqtok.evaluation.passes import Pass, compared, evaluating, run
from vqtok.metrics.pixels import Pictures
from vqtok.quantizers import to_rows

__all__ = [
    "Evaluation",
    "Metrics",
    "Pass",
    "WeightFiles",
    "choose",
    "compared",
    "evaluate",
    "evaluating",
    "run",
]

NOTHING = "an evaluation is that of one picture at least; there was none"
NO_VECTORS = "this codec keeps its vectors to itself"
UNDEFINED = "not defined for what was seen: too little, or all of it alike"
INFINITE = "infinite: something came back without any error"


class Evaluation:
    """Running sums of the figures that `metrics` names, for codebooks of `codebook_size` codes.

    depth  Q, the codes a token has; 0 where codes have no such axis, as `Quantizer.depth`
    """

    def __init__(self, codebook_size: int, depth: int, metrics: Metrics) -> None:
        self.codebook_size = codebook_size
        self.depth = depth
        self.metrics = metrics
        self.count = 0
        self.frames = 0
        self.reasons = dict(metrics.reasons)
        self.parts: dict[str, Part] = {
            name: PARTS[name](codebook_size, depth) for name in metrics.names
        }

    def add(
        self,
        pixels: Tensor | Pictures,
        reconstruction: Tensor | Pictures,
        codes: Tensor,
        e: Tensor | None = None,
        q: Tensor | None = None,
        *,
        places: Sequence[int] | None = None,
    ) -> None:
        """A batch of N pictures or clips, and what became of them.

        pixels, reconstruction  tensors (N, C, H, W) or (N, C, T, H, W), uint8 or floats in
                                [-1, 1]; or uint8 arrays with channels last
        codes                   (N, *grid), or (N, *grid, Q)
        e, q                    (N, D, *grid): vectors as they are compared, and their codes
        places                  numbers of the pictures in the whole set, each there once; without
                                them they follow those that this evaluation has. Several processes
                                give them, or batches would be others than in one process
        """
        start = self.count
        batch = Batch(
            as_frames(pixels),
            as_frames(reconstruction),
            (codes if self.depth else codes[..., None]).cpu(),
            None if e is None else to_rows(e),
            None if q is None else to_rows(q),
            range(start, start + len(codes)) if places is None else [int(n) for n in places],
            self.metrics.is_video,
            self.metrics.device,
        )
        if batch.pixels.shape[1] > 1 and not self.metrics.is_video:
            raise InputError("these are clips; their metrics are loaded with is_video=True")
        if batch.e is None:
            self._drop("quantization", InputError(NO_VECTORS))
        for name, part in list(self.parts.items()):
            try:
                part.add(batch, self.metrics.networks)
            except ImageError as error:  # too small for this figure
                self._drop(name, error)
        self.count += len(batch)
        self.frames += len(batch) * batch.pixels.shape[1]

    def state(self) -> dict[str, Any]:
        """Everything but the networks, to be pickled and sent to where it is merged."""
        own = "count", "frames", "reasons", "parts"
        return {"of": self._of(), **{name: getattr(self, name) for name in own}}

    def merge(self, other: Evaluation | dict[str, Any]) -> None:
        """Takes in what another evaluation, or the `state` of one, has seen."""
        state = other.state() if isinstance(other, Evaluation) else other
        if state["of"] != self._of():
            raise MismatchError(
                f"evaluations that are merged are of one kind; got {self._of()} and {state['of']}"
            )
        self.reasons |= state["reasons"]
        self.parts = {name: part for name, part in self.parts.items() if name in state["parts"]}
        for name, part in self.parts.items():
            part.merge(state["parts"][name])
        self.count += state["count"]
        self.frames += state["frames"]

    def result(self) -> dict[str, Any]:
        """{"metrics", "names", "reasons", "notes", "counts"}, ready for JSON.

        A figure that could not be had is None, and stands in `reasons`. `names` has those by which
        figures go whose size belongs to their name, `notes` what else there is to say.
        """
        if not self.count:
            raise InputError(NOTHING)
        found: dict[str, Any] = {}
        reasons = dict(self.reasons)
        for name in PARTS:
            if name in self.parts:
                found |= self.parts[name].result()
            elif name in reasons:
                found |= dict.fromkeys(PARTS[name].figures)
        notes = {name: note for name, part in self.parts.items() if (note := part.note())}
        clean = {name: _plain(value, name, reasons) for name, value in found.items()}
        return {
            "metrics": clean,
            "names": self._names(clean),
            "reasons": reasons,
            "notes": notes,
            "counts": self._counts(),
        }

    def _of(self) -> str:
        kind = "clips" if self.metrics.is_video else "pictures"
        figures = ", ".join(self.metrics.names)
        return f"{figures} of {kind} in {self.codebook_size} codes at depth {self.depth}"

    def _counts(self) -> dict[str, int]:
        if self.metrics.is_video:
            return {"clips": self.count, "frames": self.frames}
        return {"pictures": self.count}

    def _names(self, found: Iterable[str]) -> dict[str, str]:
        """rFID of 50,000 pictures is what papers call so; that of others is named by its size."""
        size = "" if self.count == 50_000 else f"-{self.count}"
        each = f", {self.frames // self.count} frames" if self.metrics.is_video else ""
        known = {"rfid": f"rFID{size}", "ris": f"rIS{size}", "rfvd": f"rFVD-{self.count}{each}"}
        return {name: known[name] for name in found if name in known}

    def _drop(self, name: str, error: Exception) -> None:
        if name not in self.parts:
            return
        if self.metrics.named:
            raise error
        del self.parts[name]
        self.reasons[name] = str(error)


def evaluate(
    model: Any,
    batches: Iterable[Tensor],
    metrics: Metrics | Iterable[str] | None = None,
    *,
    precision: str = "ieee32",
) -> dict[str, Any]:
    """uint8 batches (N, C, H, W) or (N, C, T, H, W) through a model -> `Evaluation.result`.

    model    an autoencoder of this package, or any `Codec`, whose precision is its own
    metrics  what to take; by default all that can be had on this machine
    """
    evaluation: Evaluation | None = None
    with evaluating(model):
        for pixels in batches:
            done = run(model, pixels, precision)
            if evaluation is None:
                chosen = _load(metrics, pixels, done)
                evaluation = Evaluation(done.codebook_size, done.depth, chosen)
            evaluation.add(pixels, done.reconstruction, done.codes, done.e, done.q)
    if evaluation is None:
        raise InputError(NOTHING)
    return evaluation.result()


def _load(metrics: Metrics | Iterable[str] | None, pixels: Tensor, done: Pass) -> Metrics:
    if isinstance(metrics, Metrics):
        return metrics
    device = done.codes.device
    return Metrics.load(metrics, is_video=pixels.ndim == 5, device=device)


def _plain(value: Any, path: str, reasons: dict[str, str]) -> Any:
    """Numbers as JSON has them: NaN and infinity are None, and `reasons` says what they were."""
    if isinstance(value, dict):
        return {key: _plain(inner, f"{path}.{key}", reasons) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, f"{path}.{at}", reasons) for at, inner in enumerate(value)]
    if value is None or math.isfinite(value):
        return value
    reasons[path] = UNDEFINED if math.isnan(value) else INFINITE
    return None

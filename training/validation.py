"""How good a model is in the middle of its training, on samples that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from vqtok.evaluation import Evaluation, Metrics, Pass, evaluating, run
from vqtok.folders import unstarted
from vqtok.metrics.pixels import from_uint8
from vqtok.sheets import Pixels, plane
from vqtok.training.data.loader import fixed
from vqtok.training.data.split import Split
from vqtok.training.finish import LatentSums
from vqtok.training.reduce import rank, summed_over_ranks, world
from vqtok.training.reports.pictures import PICTURES, USAGE, colours_of_codes, picture_sheet
from vqtok.training.reports.usage import usage_chart
from vqtok.training.settings import Settings
from vqtok.training.step import Step

__all__ = ["Found", "Validator"]


class Found(NamedTuple):
    """Figures by name, and what draws pictures under a title, by the names of their folders."""

    figures: dict[str, float]
    sheets: Callable[[str], dict[str, Pixels]]


class Validator:
    """Runs the validation samples through the averaged weights or, without these, the weights.

    Each process takes a part of the samples, and all get the same figures.
    """

    def __init__(self, settings: Settings, split: Split, step: Step) -> None:
        self.settings, self.split, self.step = settings, split, step
        keys = split.validation_source.keys
        self.places = {keys[index]: place for place, index in enumerate(split.validation.tolist())}
        names = ["psnr", "ssim_gaussian11", "usage", "quantization"]
        networks = {}
        if step.objective.perceptual is not None:
            networks["lpips_" + settings.loss.lpips_net] = step.objective.perceptual
        self.metrics = Metrics(
            names=(*names, *networks),
            is_video=settings.data.frames > 1,
            networks=networks,
            device=step.accelerator.device,
        )

    def run(self) -> Found | None:
        """The figures of now, or None while the codebook has not started."""
        model = self.step.model
        if unstarted(model):
            return None
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            return None  # the log has said so already
        quantizer = model.quantize
        evaluation = Evaluation(quantizer.codebook_size, quantizer.depth, self.metrics)
        shown: tuple[Tensor, Pass] | None = None
        with self.weights(), evaluating(model):
            for pixels, keys in self._batches():
                done = run(model, pixels)
                places = [self.places[key] for key in keys]
                codes, back = done.codes, done.reconstruction
                evaluation.add(pixels, back, codes, done.e, done.q, places=places)
                shown = shown or (pixels, done)
        evaluation = _joined(evaluation)
        if not evaluation.count:
            return None
        return Found(_figures(evaluation), partial(self._sheets, shown, evaluation))

    @torch.no_grad()
    def latents(self) -> LatentSums:
        """Mean and spread of the validation samples' latents, over all processes."""
        sums, model = LatentSums(), self.step.model
        with self.weights(), evaluating(model):
            for pixels, _ in self._batches():
                sums.add(model.encode(from_uint8(pixels.to(model.device))).latents)
        if world() == 1:
            return sums
        device = self.step.accelerator.device
        return LatentSums.from_tensors(summed_over_ranks(sums.tensors().to(device)))

    def weights(self) -> AbstractContextManager[None]:
        """While it lasts, the model has the weights that are validated."""
        average = self.step.average
        return nullcontext() if average is None else average.applied(self.step.model)

    def _batches(self) -> Iterator[tuple[Tensor, list[str]]]:
        settings = self.settings
        each = max(1, settings.batch_size // (settings.accumulate * world()))
        return fixed(
            self.split.validation_source,
            self.split.validation,
            settings.data,
            rank=rank(),
            world=world(),
            batch_size=each,
        )

    def _sheets(
        self, shown: tuple[Tensor, Pass] | None, evaluation: Evaluation, title: str
    ) -> dict[str, Pixels]:
        if shown is None:
            return {}
        pixels, done = shown
        back: Any = done.reconstruction
        usage: Any = evaluation.parts["usage"]
        model = self.step.model
        colours, grid = colours_of_codes(model.quantize), model.grid_of(tuple(pixels.shape[2:]))
        scales = model.quantize.scales_of(grid)
        codes = torch.stack([plane(ids, done.depth, scales) for ids in done.codes.cpu()])
        if model.is_video:
            codes = codes[:, [model.token_of(frame) for frame in range(pixels.shape[2])]]
        return {
            PICTURES: picture_sheet(pixels, back.cpu(), codes, colours, title),
            USAGE: usage_chart(torch.stack([sums.count for sums in usage.sums]), title),
        }


def _joined(evaluation: Evaluation) -> Evaluation:
    """What all processes have seen, put together in one order, so that all get the same bits."""
    if world() == 1:
        return evaluation
    states: list[Any] = [None] * world()
    dist.all_gather_object(states, evaluation.state())
    whole = Evaluation(evaluation.codebook_size, evaluation.depth, evaluation.metrics)
    for state in states:
        whole.merge(state)
    return whole


def _figures(evaluation: Evaluation) -> dict[str, float]:
    """Single numbers; of several codebooks their means."""
    found = evaluation.result()["metrics"]
    found.pop("psnr_of_mean_mse")  # one PSNR is enough to watch
    books, vectors = found.pop("usage"), found.pop("quantization")
    each = len(books)
    return {
        **{name: value for name, value in found.items() if value is not None},
        "usage": sum(book["whole"] for book in books) / each,
        "perplexity": sum(book["perplexity"] for book in books) / each,
        "relative_error": vectors["relative_error"],
    }

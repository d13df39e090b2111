"""One class a figure: running sums that batches are added to and that other ranks' sums join.

None of them holds a network: a `Batch` is measured with those that `Metrics` has loaded, so what
travels between processes is sums alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vqtok.errors import InputError
from vqtok.evaluation.batch import Batch
from vqtok.metrics.frechet import Moments, Predictions, frechet_distance, inception_score
from vqtok.metrics.i3d import WIDTH as I3D_WIDTH
from vqtok.metrics.inception import CLASSES
from vqtok.metrics.inception import WIDTH as INCEPTION_WIDTH
from vqtok.metrics.pixels import Window, decibels, mean_squares, ssim
from vqtok.metrics.quantization import QuantizationSums
from vqtok.metrics.usage import BATCH, WINDOW, UsageSums
from vqtok.precision import ieee32

__all__ = [
    "PARTS",
    "Frechet",
    "LpipsAlex",
    "LpipsMean",
    "LpipsVgg",
    "Mean",
    "Part",
    "Psnr",
    "Quantization",
    "Rate",
    "Rfid",
    "Rfvd",
    "Ris",
    "Ssim",
    "SsimGaussian",
    "SsimUniform",
    "UsageOfCodes",
]

# By the name of the figure that they serve.
Networks = Mapping[str, nn.Module]
Figures = npt.NDArray[np.float64]

SPLITS = 10  # of the Inception score, as in papers


class Part(ABC):
    """One figure, or several that share their sums.

    `figures` are the keys of its `result`; `still` and `moving` say whether it is a figure of
    pictures and of clips.
    """

    figures: ClassVar[tuple[str, ...]]
    still: ClassVar[bool] = True
    moving: ClassVar[bool] = True

    def __init__(self, codebook_size: int, depth: int) -> None:
        """The codebooks that codes come from; K, and Q or 0."""
        self.count = 0
        self.codebook_size = codebook_size
        self.books = max(1, depth)

    @abstractmethod
    def add(self, batch: Batch, networks: Networks) -> None:
        """Takes in a batch."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Takes in what `other` has."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """The figures, by their keys."""

    def note(self) -> str | None:
        """What has to be said about them."""
        return None


class Mean(Part):
    """A mean over pictures."""

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.total = 0.0

    @abstractmethod
    def of(self, batch: Batch, networks: Networks) -> Figures:
        """(N,) figures."""

    def add(self, batch: Batch, networks: Networks) -> None:
        """See `Part.add`. One by one, so that sums are the same bits whatever the batches."""
        for value in self.of(batch, networks).tolist():
            self.total += value
        self.count += len(batch)

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        self.total += other.total
        self.count += other.count

    def result(self) -> dict[str, Any]:
        """See `Part.result`."""
        return {self.figures[0]: self.total / self.count}


class Psnr(Mean):
    """The mean over pictures of dB, and the dB of the mean over pictures of the squared error."""

    figures = ("psnr", "psnr_of_mean_mse")

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.squares = 0.0

    def of(self, batch: Batch, networks: Networks) -> Figures:
        """See `Mean.of`."""
        errors = mean_squares(*batch.pair)
        for square in batch.means(errors).tolist():
            self.squares += square
        return batch.means(decibels(errors))

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        super().merge(other)
        self.squares += other.squares

    def result(self) -> dict[str, Any]:
        """See `Part.result`."""
        joint = float(decibels(self.squares / self.count))
        return {**super().result(), "psnr_of_mean_mse": joint}


class Ssim(Mean):
    """With one window."""

    window: ClassVar[Window]

    def of(self, batch: Batch, networks: Networks) -> Figures:
        """See `Mean.of`."""
        return batch.means(ssim(*batch.pair, self.window))


class SsimUniform(Ssim):
    figures = ("ssim_uniform7",)
    window = "uniform7"


class SsimGaussian(Ssim):
    figures = ("ssim_gaussian11",)
    window = "gaussian11"


class LpipsMean(Mean):
    """With one network."""

    def of(self, batch: Batch, networks: Networks) -> Figures:
        """See `Mean.of`."""
        with torch.no_grad(), ieee32():
            distances = networks[self.figures[0]](*batch.signed())
        return batch.means(distances.cpu().double().numpy())


class LpipsVgg(LpipsMean):
    figures = ("lpips_vgg",)


class LpipsAlex(LpipsMean):
    figures = ("lpips_alex",)


class Frechet(Part):
    """The distance of pictures' features and their reconstructions'."""

    width: ClassVar[int]

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.pixels, self.back = Moments(self.width), Moments(self.width)

    @abstractmethod
    def vectors(self, batch: Batch, which: str, networks: Networks) -> Tensor:
        """(N, width) features of "pixels" or "back"."""

    def add(self, batch: Batch, networks: Networks) -> None:
        """See `Part.add`."""
        self.pixels.add(self.vectors(batch, "pixels", networks))
        self.back.add(self.vectors(batch, "back", networks))
        self.count += len(batch)

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        self.pixels, self.back = self.pixels + other.pixels, self.back + other.back
        self.count += other.count

    def result(self) -> dict[str, Any]:
        """See `Part.result`."""
        few = self.count < 2
        distance = float("nan") if few else frechet_distance(self.pixels, self.back)
        return {self.figures[0]: distance}

    def note(self) -> str | None:
        """See `Part.note`."""
        if not self.pixels.rank_deficient:
            return None
        return (
            f"{self.count} are too few for a covariance of {self.width} features, which takes "
            f"more than {self.width}: the figure says little"
        )


class Rfid(Frechet):
    figures = ("rfid",)
    moving = False
    width = INCEPTION_WIDTH

    def vectors(self, batch: Batch, which: str, networks: Networks) -> Tensor:
        """See `Frechet.vectors`."""
        pool3: Tensor = batch.features(networks["rfid"], which).pool3
        return pool3


class Rfvd(Frechet):
    figures = ("rfvd",)
    still = False
    width = I3D_WIDTH

    def vectors(self, batch: Batch, which: str, networks: Networks) -> Tensor:
        """See `Frechet.vectors`."""
        logits: Tensor = batch.features(networks["rfvd"], which)
        return logits


class Ris(Part):
    """The Inception score of reconstructions."""

    figures = ("ris", "ris_deviation")
    moving = False

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.predictions = Predictions(CLASSES, splits=SPLITS)

    def add(self, batch: Batch, networks: Networks) -> None:
        """See `Part.add`."""
        features = batch.features(networks["ris"], "back")
        self.predictions.add(features.logits, torch.tensor(list(batch.places)))
        self.count += len(batch)

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        self.predictions = self.predictions + other.predictions
        self.count += other.count

    def result(self) -> dict[str, Any]:
        """See `Part.result`; NaN where a split has no picture."""
        if not (self.predictions.count > 0).all():
            return dict.fromkeys(self.figures, float("nan"))
        return dict(zip(self.figures, inception_score(self.predictions), strict=True))


class UsageOfCodes(Part):
    """A dictionary for each codebook."""

    figures = ("usage",)

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.sums = [UsageSums(codebook_size) for _ in range(self.books)]

    def add(self, batch: Batch, networks: Networks) -> None:
        """See `Part.add`."""
        for sums, codes in zip(self.sums, batch.codes.unbind(-1), strict=True):
            sums.add(codes, batch.places)

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        for sums, others in zip(self.sums, other.sums, strict=True):
            sums.merge(others)

    def result(self) -> dict[str, Any]:
        """See `Part.result`."""
        keys = "whole", f"per_batch_of_{BATCH}", f"window_of_{WINDOW}", "perplexity"
        return {"usage": [dict(zip(keys, sums.result(), strict=True)) for sums in self.sums]}


class Quantization(Part):
    """What the quantizer does to vectors; see `Statistics`."""

    figures = ("quantization",)

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.sums = QuantizationSums()

    def add(self, batch: Batch, networks: Networks) -> None:
        """See `Part.add`."""
        if batch.e is None or batch.q is None:
            raise InputError("the quantization's figures need vectors and their codes")
        self.sums.add(batch.e, batch.q)

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        self.sums.merge(other.sums)

    def result(self) -> dict[str, Any]:
        """See `Part.result`."""
        return {"quantization": self.sums.result()._asdict()}


class Rate(Part):
    """Bits of codes, all of them equally long, for a pixel of a frame."""

    figures = ("bits_per_pixel",)

    def __init__(self, codebook_size: int, depth: int) -> None:
        super().__init__(codebook_size, depth)
        self.codes = self.pixels = 0

    def add(self, batch: Batch, networks: Networks) -> None:
        """See `Part.add`."""
        self.codes += batch.codes.numel()
        self.pixels += int(np.prod(batch.pixels.shape[:4]))

    def merge(self, other: Self) -> None:
        """See `Part.merge`."""
        self.codes += other.codes
        self.pixels += other.pixels

    def result(self) -> dict[str, Any]:
        """See `Part.result`."""
        return {"bits_per_pixel": self.codes * float(np.log2(self.codebook_size)) / self.pixels}


# By the name that asks for it, in the order of a report.
PARTS: dict[str, type[Part]] = {
    "psnr": Psnr,
    "ssim_uniform7": SsimUniform,
    "ssim_gaussian11": SsimGaussian,
    "lpips_vgg": LpipsVgg,
    "lpips_alex": LpipsAlex,
    "rfid": Rfid,
    "ris": Ris,
    "rfvd": Rfvd,
    "usage": UsageOfCodes,
    "quantization": Quantization,
    "bits_per_pixel": Rate,
}

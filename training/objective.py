"""What the autoencoder is trained on, but for the quantizer's own losses and the discriminator."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from vqtok.errors import ConfigError
from vqtok.metrics.lpips import Lpips
from vqtok.metrics.weights import MissingWeights, find_weights
from vqtok.quantizers import Quantizer, to_rows
from vqtok.quantizers.codebook import TableQuantizer
from vqtok.training.losses import PIXEL_LOSSES
from vqtok.training.losses.entropy import entropy
from vqtok.training.settings import Loss

__all__ = ["Objective", "find_lpips"]

NETWORKS = {"vgg": "vgg16", "alex": "alexnet"}


class Objective(nn.Module):
    """The losses between pictures and reconstructions, and those of latents.

    Terms come out unweighted, by name; `weights` says how much each counts.
    """

    def __init__(self, settings: Loss, quantizer: Quantizer) -> None:
        super().__init__()
        self.pixel = {name: PIXEL_LOSSES[name] for name in settings.pixel}
        self.perceptual = _distance(settings) if settings.lpips else None
        self.temperature = settings.entropy_temperature if settings.entropy else None
        if self.temperature and not isinstance(quantizer, TableQuantizer):
            raise ConfigError(
                "loss.entropy takes a quantizer with a table of codes: vector or simvq; lfq has "
                "an entropy loss of its own, among its settings"
            )
        self.weights = {
            **settings.pixel,
            "lpips": settings.lpips,
            "entropy": settings.entropy,
        }
        if not any((*settings.pixel.values(), settings.lpips)):
            raise ConfigError(
                "nothing compares reconstructions with pictures: loss.pixel is empty or weighs 0, "
                "and loss.lpips is 0"
            )

    def reconstruction(self, rec: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Reconstructions and pictures (B, C, *size) in [-1, 1] -> scalars by name."""
        rec, x = rec.float(), x.float()
        terms = {name: loss(rec, x) for name, loss in self.pixel.items()}
        if self.perceptual is not None:
            terms["lpips"] = self.perceptual(rec, x).mean()
        return terms

    def latents(self, latents: Tensor, quantizer: Quantizer) -> dict[str, Tensor]:
        """Latents (B, D, *grid) before quantization -> scalars by name."""
        if self.temperature is None or not isinstance(quantizer, TableQuantizer):
            return {}
        rows = quantizer.compared(to_rows(latents).float())
        return {"entropy": entropy(rows, quantizer.embedding.table(), self.temperature)}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of terms."""
        return sum((self.weights[name] * term for name, term in terms.items()), start=_zero(terms))


def find_lpips(settings: Loss) -> Path:
    """The file with the network's weights; a message for people who train where there is none."""
    try:
        return find_weights(NETWORKS[settings.lpips_net], settings.lpips_weights)
    except MissingWeights as error:
        raise MissingWeights(
            f"{error} (In training loss.lpips_weights names the file, and loss.lpips=0 does "
            "without.)"
        ) from None


def _distance(settings: Loss) -> Lpips:
    # Reconstructions leave [-1, 1] while they are learned, and a check would wait for the device.
    return Lpips.load(settings.lpips_net, find_lpips(settings), check_range=False)


def _zero(terms: dict[str, Tensor]) -> Tensor:
    return next(iter(terms.values())).new_zeros(())

"""Which figures are taken, and the networks that some of them look through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vqtok.errors import ConfigError, did_you_mean
from vqtok.evaluation.parts import PARTS
from vqtok.metrics.i3d import I3D
from vqtok.metrics.inception import NO_LOGITS, Inception
from vqtok.metrics.lpips import Lpips
from vqtok.metrics.weights import MissingWeights, find_weights, weights_print

__all__ = ["GROUPS", "Metrics", "WeightFiles", "choose"]

# Names for several figures at once.
GROUPS = {"ssim": ("ssim_uniform7", "ssim_gaussian11"), "lpips": ("lpips_vgg", "lpips_alex")}
# What stands in the file that a figure's network is read from.
FILES = {
    "lpips_vgg": "vgg16",
    "lpips_alex": "alexnet",
    "rfid": "inception",
    "ris": "inception",
    "rfvd": "i3d",
}


@dataclass(frozen=True)
class WeightFiles:
    """Paths of the networks' weights; those that are None are looked for (`find_weights`).

    lpips           a folder that holds VGG16, AlexNet or both, or the one file that is needed
    allow_download  whether what is nowhere may be fetched
    """

    inception: str | None = None
    lpips: str | None = None
    i3d: str | None = None
    allow_download: bool = False

    def named(self, metric: str) -> str | None:
        """The path for a metric's network, where there is one."""
        own = "lpips" if metric.startswith("lpips") else FILES[metric]
        path: str | None = getattr(self, own)
        return path


@dataclass(frozen=True)
class Metrics:
    """Figures to take, ready to be taken; `Metrics.load` makes one.

    names     of `PARTS`, in the order of a report
    named     whether somebody asked for these by name, so that one that cannot be had is an error
    networks  by metric, on `device`
    files     of the networks' weights: {"vgg16": {"file": name, "sha256": ...}, ...}
    reasons   why others cannot be had
    """

    names: tuple[str, ...]
    is_video: bool = False
    named: bool = False
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    files: Mapping[str, dict[str, str]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def load(
        cls,
        names: Iterable[str] | None = None,
        *,
        is_video: bool = False,
        weights: WeightFiles | None = None,
        device: str | torch.device = "cpu",
    ) -> Metrics:
        """All figures of pictures or clips, or those with these `names`.

        A figure whose weights are missing is an error (`MissingWeights`) where it was named, and
        so is a path in `weights` that does not lead to them; else its reason is kept.
        """
        names = None if names is None else list(names)
        loading = _Loading(weights or WeightFiles(), torch.device(device), names is not None)
        taken = choose(names, is_video=is_video)
        available = tuple(name for name in taken if name not in FILES or loading.have(name))
        loading.check_lpips()
        return cls(
            available,
            is_video,
            names is not None,
            loading.networks,
            loading.files,
            loading.reasons,
            loading.device,
        )


def choose(names: Iterable[str] | None, *, is_video: bool = False) -> list[str]:
    """Names of figures and of groups -> names of figures, in the order of a report.

    None stands for all that there are of pictures or of clips.
    """
    fitting = [n for n, part in PARTS.items() if (part.moving if is_video else part.still)]
    if names is None:
        return fitting
    wanted = {one for name in names for one in GROUPS.get(name, (name,))}
    for name in sorted(wanted):
        if name not in PARTS:
            known = [*PARTS, *GROUPS]
            raise ConfigError(f"there is no metric called {name!r}. {did_you_mean(name, known)}")
        if name not in fitting:
            this, other = ("clips", "pictures") if is_video else ("pictures", "clips")
            raise ConfigError(f"{name!r} is a metric of {other}; these are {this}")
    return [name for name in fitting if name in wanted]


class _Loading:
    """Networks as they come, each file once."""

    def __init__(self, weights: WeightFiles, device: torch.device, named: bool) -> None:
        self.weights = weights
        self.device = device
        self.named = named
        self.networks: dict[str, nn.Module] = {}
        self.files: dict[str, dict[str, str]] = {}
        self.reasons: dict[str, str] = {}
        self._loaded: dict[str, Any] = {}

    def have(self, metric: str) -> bool:
        """Loads a metric's network; False, and a reason, where it cannot be had."""
        path = self.weights.named(metric)
        try:
            network = self._network(metric, path)
        except MissingWeights as error:
            # Of a folder for both LPIPS networks, one may be there.
            if self.named or (path is not None and not metric.startswith("lpips")):
                raise
            self.reasons[metric] = str(error)
            return False
        if metric == "ris" and network.fc is None:
            if self.named:
                raise MissingWeights(NO_LOGITS)
            self.reasons[metric] = NO_LOGITS
            return False
        self.networks[metric] = network
        return True

    def check_lpips(self) -> None:
        """Raises where a folder for LPIPS was named and holds neither network."""
        if self.weights.lpips is not None and set(GROUPS["lpips"]) <= set(self.reasons):
            raise MissingWeights(self.reasons["lpips_vgg"])

    def _network(self, metric: str, path: str | None) -> Any:
        kind = FILES[metric]
        if kind not in self._loaded:
            download = self.weights.allow_download
            file = find_weights(kind, path, allow_download=download)
            self._loaded[kind] = LOADERS[metric](file).to(self.device)
            self._note(kind, file)
            if kind in ("vgg16", "alexnet"):
                self._note("lpips", find_weights("lpips"))
        return self._loaded[kind]

    def _note(self, kind: str, file: Path) -> None:
        self.files[kind] = {"file": file.name, "sha256": weights_print(file)}


LOADERS: dict[str, Callable[[Path], nn.Module]] = {
    "lpips_vgg": lambda file: Lpips.load("vgg", file),
    "lpips_alex": lambda file: Lpips.load("alex", file),
    "rfid": Inception.load,
    "ris": Inception.load,
    "rfvd": I3D.load,
}

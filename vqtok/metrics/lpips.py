"""LPIPS 0.1 (Zhang et al., 2018): how different two pictures look, by the features of a network.

Features of five layers, each brought to length one, are subtracted; the squares are weighted by
learned heads, averaged over places and added up. Differentiable, so it is a loss as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from vqtok.errors import ConfigError, ImageError, did_you_mean
from vqtok.metrics.frozen import Frozen
from vqtok.metrics.weights import find_weights, read_tensors

__all__ = ["Lpips", "Net"]

Net = Literal["vgg", "alex"]
Path = str | os.PathLike[str]
Layers = list[nn.Module]

EPSILON = 1e-10
SLACK = 1e-3  # by which a picture may leave [-1, 1]
# What brings [-1, 1] to the mean and deviation that the networks were trained with.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


FILES = {"vgg": "vgg16", "alex": "alexnet"}
TITLES = {"vgg": "VGG16", "alex": "AlexNet"}
WIDTHS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
SMALLEST = {"vgg": 16, "alex": 31}  # sides of the smallest pictures that get through


class _Trunk(Frozen):
    """torchvision's `features` up to the last layer that is compared, by its numbers."""

    def __init__(self, layers: Layers, compared: tuple[int, ...]) -> None:
        super().__init__()
        self.compared = compared
        for number, layer in enumerate(layers):
            self.add_module(str(number), layer)

    def taps(self, x: Tensor) -> Iterator[Tensor]:
        for number, layer in enumerate(self.children()):
            x = layer(x)
            if number in self.compared:
                yield x


def _vgg() -> _Trunk:
    layers: Layers = []
    width = 3
    for block, channels in enumerate(WIDTHS["vgg"]):
        layers += [nn.MaxPool2d(2)] if block else []
        for _ in range(2 if block < 2 else 3):
            layers += _conv(width, channels, 3, padding=1)
            width = channels
    return _Trunk(layers, (3, 8, 15, 22, 29))


def _alex() -> _Trunk:
    layers = [
        *_conv(3, 64, 11, stride=4, padding=2),
        nn.MaxPool2d(3, 2),
        *_conv(64, 192, 5, padding=2),
        nn.MaxPool2d(3, 2),
        *_conv(192, 384, 3, padding=1),
        *_conv(384, 256, 3, padding=1),
        *_conv(256, 256, 3, padding=1),
    ]
    return _Trunk(layers, (1, 4, 7, 9, 11))


def _conv(width: int, channels: int, size: int, stride: int = 1, padding: int = 0) -> Layers:
    return [nn.Conv2d(width, channels, size, stride, padding), nn.ReLU(inplace=True)]


TRUNKS = {"vgg": _vgg, "alex": _alex}


class Lpips(Frozen):
    """Two batches of pictures -> their distances; float32 inside, under autocast as well.

    net          "vgg" is the usual loss, "alex" the usual figure; the two differ
    check_range  whether pictures outside [-1, 1] are an error. On a GPU this waits for the result,
                 and reconstructions in training do leave the range

    `Lpips.load` is the way to one with weights.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net = "vgg", *, check_range: bool = True) -> None:
        super().__init__()
        if net not in get_args(Net):
            raise ConfigError(
                f"there is no LPIPS network called {net!r}. {did_you_mean(net, get_args(Net))}"
            )
        self.net: Net = net
        self.check_range = check_range
        with torch.device("meta"):
            self.trunk = TRUNKS[net]()
            self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in WIDTHS[net])
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.freeze()

    @classmethod
    def load(
        cls,
        net: Net = "vgg",
        weights: Path | None = None,
        heads: Path | None = None,
        *,
        check_range: bool = True,
        allow_download: bool = False,
    ) -> Self:
        """With the weights that `find_weights` finds; torchvision's files serve as they are.

        weights  of VGG16 or AlexNet, whole or `features` alone
        heads    other than the shipped ones: a file like it, or one of the `lpips` package
        """
        distance = cls(net, check_range=check_range)
        trunk = find_weights(FILES[net], weights, allow_download=allow_download)
        linear = find_weights("lpips", heads)
        distance.trunk.fill(_trunk(read_tensors(trunk)), trunk, TITLES[net])
        distance.fill(_heads(net, read_tensors(linear)), linear, "LPIPS's heads")
        return distance

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two batches (B, 3, H, W) or (B, 3, T, H, W), floats in [-1, 1] -> (B,).

        The distance of clips is the mean over their frames.
        """
        self._check(x, y)
        with torch.autocast(x.device.type, enabled=False):
            distances = self._distances(self._scaled(x), self._scaled(y))
        return distances if x.ndim == 4 else distances.view(len(x), x.shape[2]).mean(1)

    def _scaled(self, x: Tensor) -> Tensor:
        """Frames in a row, in the range that the network was trained with."""
        frames = x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)
        return (frames.to(self.scale.dtype) - self.shift) / self.scale

    def _distances(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, 3, H, W) twice -> (N,)."""
        total = x.new_zeros(len(x))
        features = zip(self.heads, self.trunk.taps(x), self.trunk.taps(y), strict=True)
        for head, a, b in features:
            total = total + head((_unit(a) - _unit(b)).square()).mean((1, 2, 3))
        return total

    def _check(self, x: Tensor, y: Tensor) -> None:
        if x.shape != y.shape or x.ndim not in (4, 5) or x.shape[1] != 3:
            raise ImageError(
                "LPIPS compares two batches of one shape, pictures (B, 3, H, W) or clips "
                f"(B, 3, T, H, W); got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        least = SMALLEST[self.net]
        if min(x.shape[-2:]) < least:
            raise ImageError(
                f"LPIPS with {self.net!r} needs pictures of at least {least} x {least} pixels; "
                f"got {x.shape[-2]} x {x.shape[-1]}"
            )
        for pictures in (x, y):
            if not pictures.is_floating_point():
                raise ImageError(
                    "LPIPS compares floats in [-1, 1]; got "
                    f"{str(pictures.dtype).removeprefix('torch.')}"
                )
            if self.check_range and pictures.numel():
                _check_range(pictures.detach())


def _check_range(pictures: Tensor) -> None:
    low, high = (float(end) for end in pictures.aminmax())
    if not -1 - SLACK <= low <= high <= 1 + SLACK:
        raise ImageError(
            f"LPIPS compares pictures in [-1, 1]; got values from {low:.4g} to {high:.4g}"
        )


def _unit(features: Tensor) -> Tensor:
    """Vectors of length one along the channels; zeros stay, and have a gradient that is finite."""
    square = features.square().sum(1, keepdim=True)
    return features / (square.clamp_min(EPSILON**2).sqrt() + EPSILON)


def _trunk(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions alone, called as in torchvision's `features`."""
    short = {name.removeprefix("features."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in short.items() if name[0].isdigit()}


def _heads(net: Net, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the shipped file, which holds both networks', or of one of the `lpips` package."""
    packaged = {f"heads.{i}.weight": f"lin{i}.model.1.weight" for i in range(5)}
    shipped = {f"heads.{i}.weight": f"{net}.lin{i}" for i in range(5)}
    names = packaged if packaged["heads.0.weight"] in tensors else shipped
    return {own: tensors[name] for own, name in names.items() if name in tensors}

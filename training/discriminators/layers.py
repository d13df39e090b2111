"""What discriminators are made of."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from vqtok.errors import ConfigError, ImageError, did_you_mean

__all__ = ["Patches", "through"]

GROUPS = 32
NORMS = ("batch", "group")


class Patches(nn.Module):
    """The layers of a PatchGAN, over any number of dimensions.

    channels  of the first layer; doubled by each of the next, up to eight times
    layers    how many halve the picture
    norm      "group"; or "batch", by the mean and deviation of what is judged together, as
              taming-transformers has it: a logit then depends on the pictures beside its own, and
              training on how many each process has
    """

    name: ClassVar[str]
    conv: ClassVar[type[nn.Conv2d] | type[nn.Conv3d]]
    batch_norm: ClassVar[type[nn.BatchNorm2d] | type[nn.BatchNorm3d]]
    kernel: ClassVar[tuple[int, ...]]

    def __init__(
        self, in_channels: int = 3, channels: int = 64, layers: int = 3, norm: str = "group"
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ConfigError(
                f"there is no norm of a {self.name} called {norm!r}. {did_you_mean(norm, NORMS)}"
            )
        self.norm = norm
        if layers < 1 or channels < 1:
            raise ConfigError(
                f"a {self.name} has at least one layer and one channel; got layers={layers} and "
                f"channels={channels}"
            )
        widths = [channels * min(2**level, 8) for level in range(layers + 1)]
        strides = [2] * (layers - 1) + [1]
        blocks: list[nn.Module] = [
            nn.Sequential(self._conv(in_channels, channels, 2), nn.LeakyReLU(0.2)),
            *(self._block(*pair, s) for pair, s in zip(pairwise(widths), strides, strict=True)),
            self._conv(widths[-1], 1, 1),
        ]
        self.blocks = nn.ModuleList(blocks)
        self.layers = layers
        _start_small(self)

    def judged(self, x: Tensor, parts: int = 1) -> tuple[Tensor, list[Tensor]]:
        """x through all layers -> logits, and what the layers before the last one made.

        parts  of the batch that are judged each by itself, where that makes a difference
        """
        if parts > 1 and self.norm == "batch":
            logits, made = zip(*(self.judged(part) for part in x.chunk(parts)), strict=True)
            return torch.cat(logits), [torch.cat(layer) for layer in zip(*made, strict=True)]
        self.check_side(min(x.shape[-2:]))
        return through(self.blocks, x)

    def check_side(self, side: int) -> None:
        """`ImageError` where pictures of that side are too small."""
        least = 3 * 2**self.layers  # of three the last two layers leave one
        if side < least:
            raise ImageError(
                f"the discriminator {self.name} with layers={self.layers} takes pictures of at "
                f"least {least} pixels a side; got {side}; with fewer layers "
                "(discriminator.args.layers) it takes smaller ones"
            )

    def _conv(self, width: int, to: int, stride: int, bias: bool = True) -> nn.Module:
        return self.conv(width, to, self.kernel, stride, 1, bias=bias)  # type: ignore[arg-type]

    def _block(self, width: int, to: int, stride: int) -> nn.Module:
        conv = self._conv(width, to, stride, bias=False)
        return nn.Sequential(conv, self._norm(to), nn.LeakyReLU(0.2))

    def _norm(self, channels: int) -> nn.Module:
        if self.norm == "group":
            return _group_norm(channels)
        # Without running means: judging changes nothing, and nobody judges outside of training.
        return self.batch_norm(channels, track_running_stats=False)


def through(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """x through one layer after the other -> the last one's output, and those of the others."""
    made = []
    for layer in layers:
        x = layer(x)
        made.append(x)
    return made.pop(), made


def _group_norm(channels: int) -> nn.GroupNorm:
    """Over as many groups as divide the channels, 32 at most."""
    groups = next(count for count in range(min(GROUPS, channels), 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def _start_small(network: nn.Module) -> None:
    """Weights of convolutions from N(0, .02), those of norms from N(1, .02), as in pix2pix."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.weight, 1.0, 0.02)

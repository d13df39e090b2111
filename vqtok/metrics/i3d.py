"""I3D (Carreira and Zisserman, 2017) as trained on Kinetics-400: the network of FVD.

Features are its 400 logits, as in the original FVD and in StyleGAN-V's port of it: uint8 frames
are resized to 224 x 224 (bilinear, pixels as areas, no antialiasing), brought to [-1, 1], and
padded as TensorFlow's "SAME" has it, which is asymmetric where a stride leaves a remainder.
"""

from __future__ import annotations

import os
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ImageError
from vqtok.metrics.frozen import Frozen
from vqtok.metrics.pixels import from_uint8
from vqtok.metrics.weights import find_weights, read_tensors
from vqtok.precision import ieee32

__all__ = ["FRAMES", "I3D", "WIDTH"]

SIDE = 224
WIDTH = 400
FRAMES = 9  # the shortest clip of which two steps in time are left at the end

Size = tuple[int, int, int]  # time, height, width


class _Convolution(nn.Module):
    def __init__(self, width: int, channels: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.size, self.stride = (size,) * 3, (stride,) * 3
        self.conv = nn.Conv3d(width, channels, size, stride, bias=False)
        self.bn = nn.BatchNorm3d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(_same(x, self.size, self.stride))), inplace=True)


class _Block(nn.Module):
    """1, 1 + 3, 1 + 3 and pooling + 1, beside each other; `channels` in this order."""

    def __init__(self, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        first, second_in, second, third_in, third, fourth = channels
        self.b0 = _Convolution(width, first)
        self.b1a, self.b1b = _Convolution(width, second_in), _Convolution(second_in, second, 3)
        self.b2a, self.b2b = _Convolution(width, third_in), _Convolution(third_in, third, 3)
        self.b3 = _Convolution(width, fourth)
        self.width = first + second + third + fourth

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        parts = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3(pooled)
        return torch.cat(parts, 1)


BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Poolings before these blocks: size, stride.
POOLS: dict[str, tuple[Size, Size]] = {
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class I3D(Frozen):
    """The network; `I3D.load` is the way to one with weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.Conv3d_1a_7x7 = _Convolution(3, 64, 7, 2)
            self.Conv3d_2b_1x1 = _Convolution(64, 64)
            self.Conv3d_2c_3x3 = _Convolution(64, 192, 3)
            width = 192
            for name, channels in BLOCKS.items():
                block = _Block(width, channels)
                self.add_module(name, block)
                width = block.width
            self.logits = nn.Conv3d(width, WIDTH, 1)
        self.freeze()

    @classmethod
    def load(cls, weights: str | os.PathLike[str] | None = None) -> Self:
        """With the weights that `find_weights` finds.

        Names of layers may be TensorFlow's, as in `i3d_pretrained_400.pt`, or short.
        """
        file = find_weights("i3d", weights)
        net = cls()
        tensors = {_renamed(name): tensor for name, tensor in read_tensors(file).items()}
        net.fill(tensors, file, "I3D")
        return net

    def features(self, clips: Tensor) -> Tensor:
        """uint8 (N, T, H, W, 3), T of 9 or more -> (N, 400), float32, in IEEE arithmetic."""
        if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[4] != 3:
            raise ImageError(
                "I3D takes uint8 clips (N, T, H, W, 3); got "
                f"{str(clips.dtype).removeprefix('torch.')} {tuple(clips.shape)}"
            )
        if clips.shape[1] < FRAMES:
            raise ImageError(f"I3D takes clips of {FRAMES} frames or more; got {clips.shape[1]}")
        off = torch.autocast(clips.device.type, enabled=False)
        with torch.no_grad(), ieee32(), off:
            features: Tensor = self(_frames(clips))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, T, 224, 224) in [-1, 1] -> (N, 400): logits, the mean over time."""
        x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in BLOCKS:
            x = _pool(x, *POOLS[name]) if name in POOLS else x
            x = self.get_submodule(name)(x)
        logits: Tensor = self.logits(F.avg_pool3d(x, (2, 7, 7), 1))
        return logits.flatten(2).mean(2)


def _pool(x: Tensor, size: Size, stride: Size) -> Tensor:
    """The padding is never the largest, since what is pooled comes out of a ReLU."""
    return F.max_pool3d(_same(x, size, stride), size, stride)


def _same(x: Tensor, size: Size, stride: Size) -> Tensor:
    """Zeros around (N, C, T, H, W), as TensorFlow's "SAME" adds them; the odd one at the end."""
    padding: list[int] = []
    for length, window, step in zip(reversed(x.shape[2:]), size[::-1], stride[::-1], strict=True):
        whole = max((-(-length // step) - 1) * step + window - length, 0)
        padding += [whole // 2, whole - whole // 2]
    return F.pad(x, padding) if any(padding) else x


def _frames(clips: Tensor) -> Tensor:
    """uint8 (N, T, H, W, 3) -> (N, 3, T, 224, 224) in [-1, 1]."""
    frames = from_uint8(clips.flatten(0, 1).permute(0, 3, 1, 2))
    frames = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=False)
    grouped: Tensor = frames.unflatten(0, clips.shape[:2])
    return grouped.transpose(1, 2).contiguous()


SHORT = {"c1": "Conv3d_1a_7x7", "c2b": "Conv3d_2b_1x1", "c2c": "Conv3d_2c_3x3"}


def _renamed(name: str) -> str:
    """Of both kinds of files -> this module's."""
    first, _, rest = name.removeprefix("mix.").partition(".")
    rest = rest.replace("conv3d.", "conv.").replace("b3b.", "b3.")
    if first == "logits":
        rest = rest.removeprefix("conv.")
    return f"{SHORT.get(first, first)}.{rest}"

"""The Inception network of FID and the Inception score: the TensorFlow graph of 2015-12-05.

Figures are comparable with those of torch-fidelity and of the original TensorFlow code: uint8
pictures, TensorFlow 1's bilinear resize to 299 x 299 without antialiasing, (x - 128) / 128. Other
resizes give other figures under the same name.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ImageError
from vqtok.metrics.frozen import Frozen
from vqtok.metrics.weights import find_weights, read_tensors
from vqtok.precision import ieee32

__all__ = ["CLASSES", "NO_LOGITS", "WIDTH", "Features", "Inception"]

SIDE = 299
WIDTH = 2048
CLASSES = 1008
NO_LOGITS = (
    "the Inception weights have no classifier (fc), which the Inception score needs; "
    "weights-inception-2015-12-05-6726825d.pth has one"
)


class _Conv(NamedTuple):
    """name, channels, and size, stride and padding (height, width) of a convolution."""

    name: str
    channels: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


Chain = tuple[_Conv | str, ...]  # a string is a pooling


def _conv(name: str, channels: int, size: int, stride: int = 1) -> _Conv:
    """Square, with padding where it takes no strides."""
    padding = size // 2 if stride == 1 else 0
    return _Conv(name, channels, (size, size), stride, (padding, padding))


def _row(name: str, channels: int, size: int) -> _Conv:
    return _Conv(name, channels, (1, size), 1, (0, size // 2))


def _column(name: str, channels: int, size: int) -> _Conv:
    return _Conv(name, channels, (size, 1), 1, (size // 2, 0))


def _block_35(pool: int) -> tuple[Chain, ...]:
    return (
        (_conv("branch1x1", 64, 1),),
        (_conv("branch5x5_1", 48, 1), _conv("branch5x5_2", 64, 5)),
        (
            _conv("branch3x3dbl_1", 64, 1),
            _conv("branch3x3dbl_2", 96, 3),
            _conv("branch3x3dbl_3", 96, 3),
        ),
        ("average", _conv("branch_pool", pool, 1)),
    )


def _block_17(inner: int) -> tuple[Chain, ...]:
    return (
        (_conv("branch1x1", 192, 1),),
        (
            _conv("branch7x7_1", inner, 1),
            _row("branch7x7_2", inner, 7),
            _column("branch7x7_3", 192, 7),
        ),
        (
            _conv("branch7x7dbl_1", inner, 1),
            _column("branch7x7dbl_2", inner, 7),
            _row("branch7x7dbl_3", inner, 7),
            _column("branch7x7dbl_4", inner, 7),
            _row("branch7x7dbl_5", 192, 7),
        ),
        ("average", _conv("branch_pool", 192, 1)),
    )


def _block_8(pool: str) -> tuple[Chain, ...]:
    square = _conv("branch3x3_1", 384, 1)
    double = (_conv("branch3x3dbl_1", 448, 1), _conv("branch3x3dbl_2", 384, 3))
    return (
        (_conv("branch1x1", 320, 1),),
        (square, _row("branch3x3_2a", 384, 3)),
        (square, _column("branch3x3_2b", 384, 3)),
        (*double, _row("branch3x3dbl_3a", 384, 3)),
        (*double, _column("branch3x3dbl_3b", 384, 3)),
        (pool, _conv("branch_pool", 192, 1)),
    )


TO_17: tuple[Chain, ...] = (
    (_conv("branch3x3", 384, 3, 2),),
    (
        _conv("branch3x3dbl_1", 64, 1),
        _conv("branch3x3dbl_2", 96, 3),
        _conv("branch3x3dbl_3", 96, 3, 2),
    ),
    ("half",),
)
TO_8: tuple[Chain, ...] = (
    (_conv("branch3x3_1", 192, 1), _conv("branch3x3_2", 320, 3, 2)),
    (
        _conv("branch7x7x3_1", 192, 1),
        _row("branch7x7x3_2", 192, 7),
        _column("branch7x7x3_3", 192, 7),
        _conv("branch7x7x3_4", 192, 3, 2),
    ),
    ("half",),
)
# Max pooling in the last block is a slip of the graph that its weights were trained without, and
# all published figures have it.
BLOCKS = {
    "Mixed_5b": _block_35(32),
    "Mixed_5c": _block_35(64),
    "Mixed_5d": _block_35(64),
    "Mixed_6a": TO_17,
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": TO_8,
    "Mixed_7b": _block_8("average"),
    "Mixed_7c": _block_8("max"),
}
STEM: Chain = (
    _Conv("Conv2d_1a_3x3", 32, (3, 3), 2),
    _Conv("Conv2d_2a_3x3", 32, (3, 3)),
    _conv("Conv2d_2b_3x3", 64, 3),
    "half",
    _conv("Conv2d_3b_1x1", 80, 1),
    _Conv("Conv2d_4a_3x3", 192, (3, 3)),
    "half",
)


def _pool(kind: str, x: Tensor) -> Tensor:
    if kind == "average":
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return F.max_pool2d(x, 3, 1, 1) if kind == "max" else F.max_pool2d(x, 3, 2)


class _Convolution(nn.Module):
    def __init__(self, width: int, conv: _Conv) -> None:
        super().__init__()
        shape = (conv.size, conv.stride, conv.padding)
        self.conv = nn.Conv2d(width, conv.channels, *shape, bias=False)
        self.bn = nn.BatchNorm2d(conv.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Block(nn.Module):
    """Chains of convolutions beside each other; what chains begin with in common is one."""

    def __init__(self, width: int, chains: tuple[Chain, ...]) -> None:
        super().__init__()
        self.chains = chains
        self.width = 0
        for chain in chains:
            reached = width
            for part in chain:
                if isinstance(part, _Conv):
                    self.add_module(part.name, _Convolution(reached, part))
                    reached = part.channels
            self.width += reached

    def forward(self, x: Tensor) -> Tensor:
        known: dict[Chain, Tensor] = {(): x}
        for chain in self.chains:
            for end in range(len(chain)):
                if chain[: end + 1] not in known:
                    known[chain[: end + 1]] = self._step(chain[end], known[chain[:end]])
        return torch.cat([known[chain] for chain in self.chains], 1)

    def _step(self, part: _Conv | str, x: Tensor) -> Tensor:
        if isinstance(part, str):
            return _pool(part, x)
        out: Tensor = self.get_submodule(part.name)(x)
        return out


class Features(NamedTuple):
    pool3: Tensor  # (N, 2048), for FID
    logits: Tensor | None  # (N, 1008), for the Inception score; None where weights have no `fc`


class Inception(Frozen):
    """The network; `Inception.load` is the way to one with weights."""

    def __init__(self, *, classifier: bool = True) -> None:
        super().__init__()
        with torch.device("meta"):
            width = 3
            for part in STEM:
                if isinstance(part, _Conv):
                    self.add_module(part.name, _Convolution(width, part))
                    width = part.channels
            for name, chains in BLOCKS.items():
                block = _Block(width, chains)
                self.add_module(name, block)
                width = block.width
            self.fc = nn.Linear(WIDTH, CLASSES) if classifier else None
        self.freeze()

    @classmethod
    def load(
        cls, weights: str | os.PathLike[str] | None = None, *, allow_download: bool = False
    ) -> Self:
        """With the weights that `find_weights` finds; those without `fc` give no logits."""
        file = find_weights("inception", weights, allow_download=allow_download)
        tensors = read_tensors(file)
        net = cls(classifier="fc.weight" in tensors)
        net.fill(tensors, file, "FID's Inception")
        return net

    def features(self, pictures: Tensor) -> Features:
        """uint8 (N, 3, H, W) -> features, float32, in IEEE arithmetic."""
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ImageError(
                "Inception takes uint8 pictures (N, 3, H, W); got "
                f"{str(pictures.dtype).removeprefix('torch.')} {tuple(pictures.shape)}"
            )
        off = torch.autocast(pictures.device.type, enabled=False)
        with torch.no_grad(), ieee32(), off:
            features: Features = self(pictures)
        return features

    def forward(self, pictures: Tensor) -> Features:
        """See `features`."""
        x = (_tf1_resize(pictures.to(self._dtype()), SIDE) - 128) / 128
        for part in STEM:
            x = _pool(part, x) if isinstance(part, str) else self.get_submodule(part.name)(x)
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        pool3 = x.mean((2, 3))
        # Without the bias, as in the score's original code.
        return Features(pool3, None if self.fc is None else pool3 @ self.fc.weight.T)

    def _dtype(self) -> torch.dtype:
        return next(self.buffers()).dtype


def _tf1_resize(x: Tensor, side: int) -> Tensor:
    """Floats (N, C, H, W) -> (N, C, side, side) as TensorFlow 1's `resize_bilinear` has it.

    Pixels are points at whole places, the corner at 0, so that pictures shift by half a pixel;
    nothing is smoothed on the way down.
    """
    top, bottom, down = _taps(x, x.shape[2], side)
    left, right, across = _taps(x, x.shape[3], side)
    rows = (x.index_select(2, at) for at in (top, bottom))
    upper, lower = (
        first + (row.index_select(3, right) - first) * across
        for row in rows
        for first in [row.index_select(3, left)]
    )
    return upper + (lower - upper) * down[:, None]


def _taps(x: Tensor, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two neighbours of each target pixel on one axis, and the second one's share."""
    at = torch.arange(target, dtype=torch.float32, device=x.device) * (source / target)
    low = at.long()
    return low, (low + 1).clamp_max(source - 1), (at - low).to(x.dtype)

"""Sizes in pixels and grids of tokens, as a model has them."""

from __future__ import annotations

from typing import ClassVar

from vqtok.errors import InputError
from vqtok.frames import FramePlan, plan_frames
from vqtok.quantizers import Quantizer
from vqtok.strides import grid_of, size_of

__all__ = ["OnGrids"]

PROBE_SIDE = 8  # tokens, so that every layer sees beyond its padding


class OnGrids:
    """What an autoencoder says of sizes. It has a `stride` and a quantizer, `quantize`."""

    stride: tuple[int, ...]
    quantize: Quantizer
    # Whether the first frame of a clip is a token by itself, and no token sees what comes later.
    causal: ClassVar[bool] = False

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels a token, along one side."""
        ratio: int = self.stride[-1]
        return ratio

    @property
    def window(self) -> int | None:
        """Frames that go through the networks together; longer clips are cut into such windows.

        None for pictures, and for causal models, which take a clip frame by frame.
        """
        return None

    @property
    def only_size(self) -> tuple[int, int] | None:
        """Height and width in pixels where it takes no other; None where it takes many."""
        return None

    def grid_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Pixels (H, W) or (T, H, W) -> the grid of latents; `ImageError` where they do not fit."""
        return grid_of(size, self.stride, causal=self.causal)

    def size_of(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """The grid of latents -> pixels (H, W) or (T, H, W)."""
        return size_of(grid, self.stride, causal=self.causal)

    def probe_size(self) -> tuple[int, ...]:
        """The pixels (H, W) or (T, H, W) that its behaviour is checked with, small where it may."""
        return self.size_of((PROBE_SIDE,) * len(self.stride))

    @property
    def code_axes(self) -> int:
        """Axes of one picture's or clip's codes, without that of several codes a token."""
        shape = self.quantize.codes_shape(self.grid_of(self.probe_size()))
        return len(shape) - bool(self.quantize.depth)

    @property
    def is_multiscale(self) -> bool:
        """Whether codes of several grids follow each other, coarse to fine."""
        return bool(self.quantize.scales_of(self.grid_of(self.probe_size())))

    @property
    def is_video(self) -> bool:
        """Whether it takes clips."""
        return len(self.stride) == 3

    def plan_frames(self, count: int) -> FramePlan:
        """How a clip of so many frames is padded and cut, and what comes back: see `FramePlan`."""
        if not self.is_video:
            raise InputError(f"{type(self).__name__} takes pictures, which have no frames to plan")
        return plan_frames(count, self.stride[0], causal=self.causal, window=self.window)

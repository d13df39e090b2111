"""A batch of pictures or clips beside their reconstructions, as figures take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqtok.errors import ImageError, InputError
from vqtok.metrics.pixels import Pictures, from_uint8, to_uint8

__all__ = ["Batch", "as_frames"]


@dataclass
class Batch:
    """What one `Evaluation.add` brings; a picture is a clip of one frame.

    pixels, back  uint8 (N, T, H, W, C)
    codes         (N, *grid, Q) int64, on the CPU
    e, q          vectors and codes (M, D), or None where a codec keeps these to itself
    places        of the N pictures in the whole set
    moving        whether these are clips
    device        where networks that look at them are
    """

    pixels: Pictures
    back: Pictures
    codes: Tensor
    e: Tensor | None
    q: Tensor | None
    places: Sequence[int]
    moving: bool
    device: torch.device
    _features: dict[tuple[int, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.shape != self.back.shape:
            raise ImageError(
                "pixels and reconstruction have one shape; as (N, T, H, W, C) they are "
                f"{self.pixels.shape} and {self.back.shape}"
            )
        if not len(self.pixels) == len(self.codes) == len(self.places):
            raise InputError(
                f"{len(self.pixels)} pictures need as many grids of codes and places; got "
                f"{len(self.codes)} and {len(self.places)}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def pair(self) -> tuple[Pictures, Pictures]:
        """All frames in a row, (N T, H, W, C), and their reconstructions."""
        return self.pixels.reshape(-1, *self.pixels.shape[2:]), self.back.reshape(
            -1, *self.back.shape[2:]
        )

    def means(self, frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Figures of frames (N T,) -> those of pictures or clips (N,), means over the frames."""
        means: npt.NDArray[np.float64] = frames.reshape(len(self), -1).mean(1)
        return means

    def signed(self) -> tuple[Tensor, Tensor]:
        """Both as floats in [-1, 1], (N T, C, H, W)."""
        x, y = (from_uint8(_planes(frames).to(self.device)) for frames in self.pair)
        return x, y

    def features(self, network: Any, which: str) -> Any:
        """What a network for pictures or for clips sees in "pixels" or "back"; computed once."""
        key = id(network), which
        if key not in self._features:
            clips: Pictures = getattr(self, which)
            taken = torch.from_numpy(clips) if self.moving else _planes(clips[:, 0])
            self._features[key] = network.features(taken.to(self.device))
        return self._features[key]


def as_frames(x: Tensor | Pictures) -> Pictures:
    """Pictures or clips -> uint8 (N, T, H, W, C), T = 1 for pictures.

    Tensors are (N, C, H, W) or (N, C, T, H, W) as models have them, uint8 or floats in [-1, 1],
    which are rounded here once; arrays are uint8 (N, H, W, C) or (N, T, H, W, C) as codecs do.
    """
    if x.ndim not in (4, 5) or (isinstance(x, np.ndarray) and x.dtype != np.uint8):
        raise ImageError(
            "to be compared are tensors (N, C, H, W) or (N, C, T, H, W), or uint8 arrays with "
            f"channels last; got {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
        )
    if isinstance(x, np.ndarray):
        return x[:, None] if x.ndim == 4 else x
    clips = x[:, :, None] if x.ndim == 4 else x
    frames = clips.transpose(1, 2)  # (N, T, C, H, W)
    if x.dtype != torch.uint8:
        return to_uint8(frames.flatten(0, 1)).reshape(*frames.shape[:2], *_last(frames))
    pixels: Pictures = frames.permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()
    return pixels


def _last(frames: Tensor) -> tuple[int, int, int]:
    channels, height, width = frames.shape[2:]
    return height, width, channels


def _planes(frames: Pictures) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), both uint8."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))

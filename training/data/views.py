"""From a sample to the pixels that the network sees, uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vqtok.errors import ImageError
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess, load_image, preprocess
from vqtok.resize import RESIZERS
from vqtok.sources import Sample
from vqtok.training.data.stream import Draws
from vqtok.training.settings import Data

__all__ = ["RESIZE", "center_view", "random_view"]

# What `Data.filter` means: the tokenizer's own resize; and OpenCV's bilinear, which
# taming-transformers and LDM trained with.
RESIZE = {"bicubic": "torch-u8-bicubic", "bilinear": "opencv-u8-bilinear"}
TOP, LEFT, FLIP, TIME = range(4)  # purposes of draws


def random_view(sample: Sample, data: Data, draws: Draws) -> Tensor:
    """One way to look at a sample -> (C, S, S), or (C, T, S, S) where `data.frames` is above 1.

    A picture or frame is resized, padded, cropped and mirrored, in this order, all frames of a
    clip alike. A clip shorter than its window takes is an ImageError: repeating frames would teach
    that time stands still.
    """
    frames = [_resized(frame, data) for frame in _frames(sample, data, draws)]
    height, width = (side + 2 * data.pad for side in frames[0].shape[:2])
    top, left = (height - data.size) // 2, (width - data.size) // 2
    if data.crop == "random":
        top = draws.below(height - data.size + 1, TOP)
        left = draws.below(width - data.size + 1, LEFT)
    mirrored = data.flip and draws.below(2, FLIP) == 1
    padded = [_padded(frame, data.pad) for frame in frames]
    cut = [frame[top : top + data.size, left : left + data.size] for frame in padded]
    return _tensor([frame[:, ::-1] for frame in cut] if mirrored else cut, data)


def center_view(sample: Sample, data: Data) -> Tensor:
    """The middle of a sample, shaped as in `random_view`, without its scale, padding and mirror.

    With `resize="short"` these are the pixels that a tokenizer of this size makes of a picture.
    """
    frames = _frames(sample, data, None)
    if data.resize == "short":
        settings = Preprocess(size=data.size, resize=RESIZE[data.filter])
        return _tensor([preprocess(frame, settings) for frame in frames], data)
    frames = [_resized(frame, data) for frame in frames]
    height, width = frames[0].shape[:2]
    top, left = (height - data.size) // 2, (width - data.size) // 2
    return _tensor([f[top : top + data.size, left : left + data.size] for f in frames], data)


def _frames(sample: Sample, data: Data, draws: Draws | None) -> Sequence[Pixels]:
    """A picture, or the frames of a window, the middle one without `draws`; each (H, W, 3)."""
    if not hasattr(sample.data, "frames"):
        return [load_image(sample.data)]
    length, taken = sample.data.length, (data.frames - 1) * data.stride + 1
    if length < taken:
        raise ImageError(
            f"the clip has {length} frames; {data.frames} of them, {data.stride} apart, take "
            f"{taken}"
        )
    room = length - taken
    start = room // 2 if draws is None else draws.below(room + 1, TIME)
    return list(sample.data.frames(start, data.frames, data.stride))


def _resized(frame: Pixels, data: Data) -> Pixels:
    """(H, W, 3) with the short side that the crop is taken from."""
    height, width = frame.shape[:2]
    short = max(data.size, min(height, width))
    if data.resize == "short":
        short = round(data.size * data.scale)
    if short == min(height, width):
        return frame
    # The other side in proportion, rounded half up.
    low = min(height, width)
    size = (2 * height * short + low) // (2 * low), (2 * width * short + low) // (2 * low)
    return RESIZERS[RESIZE[data.filter]](frame, size)


def _padded(frame: Pixels, pad: int) -> Pixels:
    """Mirrored about its outermost pixels."""
    return np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), mode="reflect") if pad else frame


def _tensor(frames: Sequence[Pixels], data: Data) -> Tensor:
    """(S, S, 3) each -> (3, S, S) or (3, T, S, S)."""
    clip = np.empty((3, len(frames), data.size, data.size), np.uint8)
    for number, frame in enumerate(frames):
        clip[:, number] = frame.transpose(2, 0, 1)
    return torch.from_numpy(clip if data.frames > 1 else clip[:, 0])

"""Resizing by name. Each implementation is pinned to its bytes; other bytes get another name.

All take and give (H, W, 3) uint8. They round differently, and some percent of a tokenizer's ids
follow, so the name is part of its fingerprint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from vqtok.bicubic import bicubic

if TYPE_CHECKING:
    from vqtok.pictures import Pixels

__all__ = ["RESIZERS", "Size", "halved"]

Size = tuple[int, int]  # height, width
Whole = npt.NDArray[np.int32]


def _torch_u8_bicubic(pixels: Pixels, size: Size) -> Pixels:
    """torch's antialiased bicubic in integers, never in floats, whose result is another.

    The same bytes in any memory layout, with any number of threads and instruction set.
    """
    # The twin makes the same bytes; torch's kernel does it two to ten times faster, and is not
    # worth an import of seconds. But where it has no AVX2 it makes other bytes of what becomes one
    # pixel wide.
    torch = sys.modules.get("torch")
    if torch is None or size[1] == 1:
        return bicubic(pixels, size)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, size=size, mode="bicubic", antialias=True, align_corners=False
    )
    made: Pixels = resized[0].permute(1, 2, 0).contiguous().numpy()
    return made


def _resample(picture: Image.Image, size: Size, kernel: Image.Resampling) -> Image.Image:
    """Pillow's resize, rows first, then columns.

    Pillow 13 chooses the order by cost, older ones always take this one; on rough pictures
    the order moves values by up to 20.
    """
    height, width = size
    rows = picture.resize((width, picture.height), kernel)
    return rows.resize((width, height), kernel)


def _pillow(kernel: Image.Resampling) -> Callable[[Pixels, Size], Pixels]:
    def resize(pixels: Pixels, size: Size) -> Pixels:
        return np.array(_resample(Image.fromarray(pixels), size, kernel))

    return resize


def _adm_box_bicubic(pixels: Pixels, size: Size) -> Pixels:
    """Guided diffusion's: halved by box means while twice too big, then Pillow's bicubic."""
    picture = Image.fromarray(pixels)
    height, width = halved(picture.height, picture.width, min(size))
    while (picture.height, picture.width) != (height, width):
        half = (picture.height // 2, picture.width // 2)
        picture = _resample(picture, half, Image.Resampling.BOX)
    return np.array(_resample(picture, size, Image.Resampling.BICUBIC))


def _opencv_u8_bilinear(pixels: Pixels, size: Size) -> Pixels:
    """What OpenCV's INTER_LINEAR makes of uint8, bit for bit: fixed point, no antialiasing."""
    y0, y1, up, down = _linear_taps(pixels.shape[0], size[0])
    x0, x1, left, right = _linear_taps(pixels.shape[1], size[1])

    def across(rows: Pixels) -> Whole:
        return (rows[:, x0] * left[:, None] + rows[:, x1] * right[:, None]) >> 4

    above, below = up[:, None, None] * across(pixels[y0]), down[:, None, None] * across(pixels[y1])
    return (((above >> 16) + (below >> 16) + 2) >> 2).astype(np.uint8, order="C")


def _linear_taps(source: int, target: int) -> tuple[Whole, Whole, Whole, Whole]:
    """The two neighbours of each target pixel on one axis, and their weights in 1/2048."""
    step = 1 / (target / source)
    at = ((np.arange(target) + 0.5) * step - 0.5).astype(np.float32)
    low = np.floor(at)
    share = at - low
    first, second = (np.clip(index, 0, source - 1).astype(np.int32) for index in (low, low + 1))
    near, far = (np.rint(part * np.float32(2048)).astype(np.int32) for part in (1 - share, share))
    return first, second, near, far


def halved(height: int, width: int, side: int) -> Size:
    """The sides after halving, rounded down, while the shorter is at least twice `side`."""
    while min(height, width) >= 2 * side:
        height, width = height // 2, width // 2
    return height, width


RESIZERS: dict[str, Callable[[Pixels, Size], Pixels]] = {
    "torch-u8-bicubic": _torch_u8_bicubic,
    "pillow-bilinear": _pillow(Image.Resampling.BILINEAR),
    "pillow-bicubic": _pillow(Image.Resampling.BICUBIC),
    "pillow-lanczos": _pillow(Image.Resampling.LANCZOS),
    "adm-box-bicubic": _adm_box_bicubic,
    "opencv-u8-bilinear": _opencv_u8_bilinear,
}

"""PSNR and SSIM, both on uint8 pictures, and the one way between these and a model's floats.

Pictures are numpy arrays (N, H, W, C) of uint8, values 0 to 255, as codecs give them. Figures of
the same name differ between papers by their rounding, range and window; here each is fixed.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqtok.errors import ConfigError, ImageError, did_you_mean

__all__ = [
    "Pictures",
    "Window",
    "decibels",
    "from_uint8",
    "mean_squares",
    "psnr",
    "ssim",
    "to_uint8",
]

Pictures = npt.NDArray[np.uint8]
Window = Literal["uniform7", "gaussian11"]

RANGE = 255


def from_uint8(x: Tensor) -> Tensor:
    """uint8 pixels -> floats in [-1, 1]: the one rule, with equal bits on every device.

    A sum that is exact and one product: GPUs turn a division into a product with the reciprocal,
    which may round otherwise than the CPU's division.
    """
    return (x.float() - 127.5) * (1 / 127.5)


def to_uint8(pixels: Tensor) -> Pictures:
    """(N, C, H, W) floats in [-1, 1] -> (N, H, W, C) uint8: clamped, then rounded.

    A uint8 picture that was brought to [-1, 1] comes back as it was.
    """
    if pixels.ndim != 4 or not pixels.is_floating_point():
        raise ImageError(
            "decoded pixels are floats of the shape (N, C, H, W); got "
            f"{str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}"
        )
    pixels = pixels.detach().float()
    if pixels.isnan().any():
        raise ImageError("decoded pixels are numbers in [-1, 1]; got some NaN")
    scaled = (pixels.clamp(-1, 1) + 1) * (RANGE / 2)
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def psnr(a: Pictures, b: Pictures) -> npt.NDArray[np.float64]:
    """Two batches (N, H, W, C) -> (N,) peak signal-to-noise ratios in dB; equal pictures: inf."""
    return decibels(mean_squares(a, b))


def decibels(error: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean squared errors -> ratios of the largest square to them, in dB; of no error: inf."""
    with np.errstate(divide="ignore"):
        ratio: npt.NDArray[np.float64] = 10 * np.log10(RANGE**2 / np.asarray(error, np.float64))
    return ratio


def mean_squares(a: Pictures, b: Pictures) -> npt.NDArray[np.float64]:
    """Two batches (N, H, W, C) -> (N,) mean squared errors, of values from 0 to 255."""
    _check(a, b)
    pairs = zip(a, b, strict=True)
    return np.array([np.square(x.astype(np.int64) - y).mean() for x, y in pairs], np.float64)


def ssim(a: Pictures, b: Pictures, window: Window = "uniform7") -> npt.NDArray[np.float64]:
    """Two batches (N, H, W, C) -> (N,) structural similarities, the mean over channels and windows.

    window  "uniform7": 7 x 7, equal weights, sample covariance: scikit-image's default;
            "gaussian11": 11 x 11, sigma 1.5, as Wang et al. (2004) have it.
            Only windows that lie inside the picture count.
    """
    _check(a, b)
    if window not in get_args(Window):
        raise ConfigError(
            f"there is no SSIM window called {window!r}. {did_you_mean(window, get_args(Window))}"
        )
    weights = _weights(window)
    if min(a.shape[1:3]) < len(weights):
        raise ImageError(
            f"SSIM with the window {window!r} needs pictures of at least {len(weights)} x "
            f"{len(weights)} pixels; got {a.shape[1]} x {a.shape[2]}"
        )
    correction = len(weights) ** 2 / (len(weights) ** 2 - 1) if window == "uniform7" else 1.0
    pairs = zip(a, b, strict=True)
    return np.array([_similarity(x, y, weights, correction) for x, y in pairs], np.float64)


def _weights(window: Window) -> Tensor:
    """The window along one axis, float64, with the sum 1."""
    if window == "uniform7":
        return torch.full((7,), 1 / 7, dtype=torch.float64)
    place = torch.arange(-5, 6, dtype=torch.float64)
    bell = torch.exp(-place.square() / (2 * 1.5**2))
    return bell / bell.sum()


def _similarity(x: Pictures, y: Pictures, weights: Tensor, correction: float) -> float:
    """Two pictures (H, W, C); `correction` turns a window's variances into sample variances."""
    p, q = (torch.from_numpy(t.astype(np.float64)).permute(2, 0, 1) for t in (x, y))
    moments = torch.cat([p, q, p * p, q * q, p * q])  # (5 C, H, W)
    moments = _means(_means(moments, weights, -2), weights, -1)
    mean_p, mean_q, square_p, square_q, product = moments.chunk(5)
    spread = correction * (square_p - mean_p**2 + square_q - mean_q**2)
    together = correction * (product - mean_p * mean_q)
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    light = (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1)
    return float((light * (2 * together + c2) / (spread + c2)).mean())


def _means(x: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Of each window along `dim`; torch's convolution takes ten times as long in float64."""
    size = x.shape[dim] - len(weights) + 1
    total = torch.zeros_like(x.narrow(dim, 0, size))
    for start, weight in enumerate(weights.tolist()):
        total.add_(x.narrow(dim, start, size), alpha=weight)
    return total


def _check(a: Pictures, b: Pictures) -> None:
    for pictures in (a, b):
        if pictures.dtype != np.uint8 or pictures.ndim != 4:
            raise ImageError(
                "pictures to compare are uint8 arrays of the shape (N, H, W, C); got "
                f"{pictures.dtype} {pictures.shape}"
            )
    if a.shape != b.shape:
        raise ImageError(f"pictures to compare have one shape; got {a.shape} and {b.shape}")

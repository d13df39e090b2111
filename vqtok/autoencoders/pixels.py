"""Pixel ranges: [-1, 1] outside a model, whatever it was trained on inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vqtok.errors import ConfigError, ImageError
from vqtok.metrics.pixels import from_uint8

__all__ = ["PixelRange", "as_signed"]

# Float pixels this far out of [-1, 1] are rounding, not another range.
TOLERANCE = 1e-3


class PixelRange:
    """(pixel - mean) / std of pixels in [0, 1], and the way back."""

    def __init__(
        self,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        *,
        channels: int,
        out_channels: int,
    ) -> None:
        self.mean = tuple(mean) if mean is not None else (0.5,) * channels
        self.std = tuple(std) if std is not None else (0.5,) * channels
        for name, values in (("pixel_mean", self.mean), ("pixel_std", self.std)):
            if len(values) != channels:
                raise ConfigError(
                    f"{name} has a number for each of {channels} channels; got {list(values)}"
                )
        if min(self.std) <= 0:
            raise ConfigError(f"pixel_std is positive; got {list(self.std)}")
        # x in [-1, 1] is (x + 1) / 2 in [0, 1]; both ways are one product and one sum.
        self.gain = [0.5 / s for s in self.std]
        self.offset = [(0.5 - m) / s for m, s in zip(self.mean, self.std, strict=True)]
        self.is_signed = set(self.gain) == {1.0} and set(self.offset) == {0.0}
        if not self.is_signed and out_channels != channels:
            raise ConfigError(
                "pixel_mean and pixel_std hold for pixels in and out, so there are as many "
                f"in_channels as out_channels; got {channels} and {out_channels}"
            )

    def inward(self, x: Tensor) -> Tensor:
        """(B, C, ...) in [-1, 1] -> what the encoder takes."""
        if self.is_signed:
            return x
        return x * self._column(self.gain, x) + self._column(self.offset, x)

    def outward(self, x: Tensor) -> Tensor:
        """What the decoder gives (B, C, ...) -> [-1, 1]."""
        if self.is_signed:
            return x
        return (x - self._column(self.offset, x)) / self._column(self.gain, x)

    def _column(self, values: list[float], like: Tensor) -> Tensor:
        shape = (-1, *(1,) * (like.ndim - 2))
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(shape)


def as_signed(
    x: Tensor, channels: int, axes: int, grid_of: Callable[[tuple[int, ...]], object]
) -> Tensor:
    """Pixels to be made ids of, (B, C, *size): checked, and as floats in [-1, 1].

    axes     2 for pictures, 3 for clips
    grid_of  raises where a model does not take a size
    """
    what, names = ("picture", "HW") if axes == 2 else ("clip", "THW")
    if not isinstance(x, Tensor):
        raise ImageError(f"pixels are a tensor here; got {type(x).__name__}")
    if x.ndim != 2 + axes or x.shape[1] != channels:
        raise ImageError(
            f"pixels have the shape (B, {channels}, {', '.join(names)}); got {tuple(x.shape)}"
        )
    if not x.shape[0]:
        raise ImageError(f"there is no {what} in a batch of the shape {tuple(x.shape)}")
    try:
        grid_of(tuple(x.shape[2:]))
    except ImageError as error:
        raise ImageError(f"{error} (vqtok.preprocess crops or pads to fit)") from None
    if x.dtype == torch.uint8:
        return from_uint8(x)
    if not x.is_floating_point():
        raise ImageError(f"pixels are uint8, or floats in [-1, 1]; got a tensor of {x.dtype}")
    if torch.compiler.is_compiling():  # a program cannot look at values
        return x
    low, high = (float(bound) for bound in x.float().aminmax())
    if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):
        raise ImageError(
            "float pixels are finite and lie in [-1, 1]; got values from "
            f"{low:.4g} to {high:.4g} (uint8 pixels may be passed as they are)"
        )
    return x

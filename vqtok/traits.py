"""What is known of a model where there is none: sizes and grids, frames, codes. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vqtok.errors import CodesError, ImageError, InputError, LoadError, MismatchError
from vqtok.frames import FramePlan, plan_frames
from vqtok.strides import Scales, by, grid_of, share, size_of, token_of
from vqtok.types import Codes, Fingerprint, axes_text, code_dtype

__all__ = ["Traits", "check_codes", "check_sizes"]


@dataclass(frozen=True)
class Traits:
    """What a codec says of its model. Frozen, picklable, and JSON by `to_dict`.

    codebook_size    K
    depth            Q, the codes of a token, or 0 where ids have no such axis
    axes             of one picture's or clip's codes, without that of several a token
    stride           pixels a token: (h, w), or (t, h, w) of clips
    only_size        height and width where the model takes no other
    only_grid        of the vectors of such a picture, (L,) of a sequence
    latent_channels  D of the vectors before quantization; None where nobody gives them
    scale_sides      of codes from coarse to fine, the sides of the grid that it is trained on
    causal, window   how frames become tokens: see `vqtok.frames.plan_frames`
    """

    codebook_size: int
    depth: int
    axes: int
    stride: tuple[int, ...]
    only_size: tuple[int, int] | None = None
    only_grid: tuple[int, ...] | None = None
    latent_channels: int | None = None
    scale_sides: tuple[int, ...] = ()
    causal: bool = False
    window: int | None = None

    @classmethod
    def of(cls, model: Any) -> Traits:
        """Those of an autoencoder of `vqtok.autoencoders`."""
        quantize = model.quantize
        only = model.only_size
        return cls(
            codebook_size=quantize.codebook_size,
            depth=quantize.depth,
            axes=model.code_axes,
            stride=tuple(model.stride),
            only_size=only,
            only_grid=None if only is None else tuple(model.grid_of(only)),
            latent_channels=quantize.dim,
            scale_sides=tuple(quantize.scales) if model.is_multiscale else (),
            causal=model.causal,
            window=model.window,
        )

    @property
    def is_video(self) -> bool:
        """Whether it takes clips; a picture is a clip of one frame then."""
        return len(self.stride) == 3

    @property
    def is_multiscale(self) -> bool:
        """Whether the codes of several grids follow each other, coarse to fine."""
        return bool(self.scale_sides)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of codes in files, in slots and on the wire."""
        return code_dtype(self.codebook_size)

    @property
    def frames(self) -> int:
        """Frames that a clip of one token stands for; 1 of pictures."""
        return self.plan_frames(1).padded if self.is_video else 1

    # --- sizes and grids --------------------------------------------------------------------

    def plan_frames(self, count: int) -> FramePlan:
        """What becomes of so many frames."""
        if not self.is_video:
            raise InputError("this tokenizer takes pictures, which have no frames to plan")
        return plan_frames(count, self.stride[0], causal=self.causal, window=self.window)

    def token_of(self, frame: int) -> int:
        """Which token along time shows a frame of a clip."""
        return token_of(frame, self.stride[0], causal=self.causal)

    def latent_grid_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """Pixels (H, W) or (T, H, W) -> the grid of vectors; `ImageError` where they do not fit."""
        if self.only_size is None:
            return grid_of(size, self.stride, causal=self.causal)
        if tuple(size) != self.only_size or self.only_grid is None:
            raise ImageError(f"the sides of a picture are {by(self.only_size)}; got {by(size)}")
        return self.only_grid

    def grid_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """Pixels (H, W) or (T, H, W) -> the shape of their codes, without the axis Q."""
        grid = self.latent_grid_of(size)
        if not self.is_multiscale:
            return grid
        return (sum(height * width for height, width in self.scales_of(grid)),)

    def size_of(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The grid of vectors -> the pixels that it stands for."""
        if self.only_size is None:
            return size_of(grid, self.stride, causal=self.causal)
        if tuple(grid) != self.only_grid:
            raise CodesError(f"a picture has {by(self.only_grid or ())} codes here; got {by(grid)}")
        return self.only_size

    def scales_of(self, grid: Sequence[int]) -> Scales:
        """Height and width of each scale of a grid of vectors, coarse to fine; () of one scale."""
        if not self.is_multiscale:
            return ()
        if len(grid) != 2:
            raise InputError(f"codes of several scales have a grid (h, w); got {tuple(grid)}")
        whole = self.scale_sides[-1]
        return tuple(
            (max(1, share(grid[0], side, whole)), max(1, share(grid[1], side, whole)))
            for side in self.scale_sides
        )

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises where codes of one picture or clip (*grid[, Q]) have another shape."""
        shape = tuple(shape)
        deep = self.depth and (not shape or shape[-1] != self.depth)
        if len(shape) != self.axes + bool(self.depth) or deep or 0 in shape:
            raise CodesError(
                f"the codes of a {'clip' if self.is_video else 'picture'} have the shape "
                f"{axes_text(self.axes, self.depth)} here, with at least one token; got {shape}"
            )
        codes = shape[: self.axes]
        if self.only_size is not None and codes != (own := self.grid_of(self.only_size)):
            raise CodesError(f"a picture has {by(own)} codes here; got {by(codes)}")

    # --- JSON -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Traits:
        """From what `to_dict` gave; `LoadError` for anything else."""
        known = {field.name for field in fields(cls)}
        try:
            if unknown := sorted(set(stored) - known):
                raise LoadError(f"these are no traits of a model: {unknown[0]!r} is not known")
            given = {name: stored[name] for name in known}
            return cls(**given | {name: _tuple(given[name]) for name in TUPLES})
        except KeyError as error:
            raise LoadError(f"these are no traits of a model: {error} is missing") from None
        except TypeError as error:
            raise LoadError(f"these are no traits of a model: {error}") from None


TUPLES = ("stride", "only_size", "only_grid", "scale_sides")


def _tuple(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


# --- codes ----------------------------------------------------------------------------------------


def check_codes(codes: Codes, fingerprint: Fingerprint, traits: Traits) -> None:
    """Raises where a tokenizer cannot decode codes: they are another codebook's, or of no grid."""
    if not fingerprint.can_decode(codes):
        raise MismatchError(
            f"these codes were made with the codebook {codes.codebook[:16]} and cannot be "
            f"decoded by a tokenizer whose codebook is {fingerprint.codebook[:16]}"
        )
    if (codes.codebook_size, codes.depth) != (traits.codebook_size, traits.depth):
        raise MismatchError(
            f"these codes have codebook_size={codes.codebook_size} and depth={codes.depth}; "
            f"this tokenizer decodes codebook_size={traits.codebook_size} and "
            f"depth={traits.depth}"
        )
    if codes.scales and codes.scales != (own := traits.scales_of(codes.scales[-1])):
        raise MismatchError(
            f"these codes have the scales {_shown(codes.scales)}; this tokenizer cuts a grid "
            f"of {_shown(codes.scales[-1:])} into {_shown(own) or 'none'}"
        )
    check_sizes(codes, traits)


def check_sizes(codes: Codes, traits: Traits) -> None:
    """Raises where codes claim to stand for more pixels than their grid does, or for too few.

    Less than a grid stands for is what remains when repeated frames and edges are cut off: they
    never fill a whole token. 0 is a side that is not known.
    """
    grid = codes.scales[-1] if codes.scales else codes.grid
    if len(grid) != len(traits.stride) and traits.only_size is None:
        return  # a sequence that does not say of which grid
    most = traits.size_of(grid)
    least = [1] * len(most)
    if traits.only_size is None:
        least = [max(0, side) + 1 for side in traits.size_of([cells - 1 for cells in grid])]
    for size in codes.sizes.tolist():
        ranges = zip(size, least, most, strict=False)
        if any(side and not low <= side <= high for side, low, high in ranges):
            raise CodesError(
                f"a grid of {by(grid)} codes stands for {by(least)} to {by(most)} pixels, "
                f"{'frames, ' * (len(most) == 3)}height and width; got the size {size}"
            )


def _shown(scales: Scales) -> str:
    return " ".join(f"{height}x{width}" for height, width in scales)

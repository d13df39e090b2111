"""What a process that holds no model knows about one: enough to check pictures and codes, and to
say how large a slot must be. Importing this brings no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError, ImageError, InputError, LoadError
from vqtok.frames import FramePlan, plan_frames
from vqtok.pictures import MAX_ASPECT
from vqtok.preprocess import Preprocess
from vqtok.strides import Scales, by, check_codes, grid_of, share, size_of
from vqtok.types import Codes, Fingerprint

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["UNCHECKED", "Facts", "Limits", "describe"]

UNCHECKED = "unchecked"
PART = 64  # bytes that a part of a slot may begin after the one before it
PAGE = 4096


class Limits(Protocol):
    """What the settings of a server say about sizes."""

    @property
    def max_area(self) -> int: ...
    @property
    def max_frames(self) -> int: ...


@dataclass(frozen=True)
class Facts:
    """One tokenizer as it is served. Frozen, picklable, and JSON by `to_dict`.

    name             in paths
    tokenizer        as whoever started the server named it
    version          of vqtok
    codebook_size    K
    depth            Q, the codes of a token, or 0 where ids have no such axis
    axes             of one picture's or clip's codes, without that of several a token
    stride           pixels a token: (h, w), or (t, h, w) of clips
    only_size        height and width where the model takes no other
    grid             of the codes of a picture, where preprocessing brings all to one size: (h, w),
                     (1, h, w) where it is a clip of one frame, (L,) of a sequence. None else
    latent_grid      likewise of the vectors before quantization
    latent_channels  D of those; None where the model does not give them
    scale_sides      of codes from coarse to fine, the sides of the grid that it is trained on
    causal, window   how frames become tokens: see `vqtok.frames.plan_frames`
    check            what its probe said when it was loaded: "exact", "near ties (2)", ...
    """

    name: str
    tokenizer: str
    version: str
    fingerprint: Fingerprint
    precision: str
    preprocess: Preprocess
    codebook_size: int
    depth: int
    axes: int
    stride: tuple[int, ...]
    only_size: tuple[int, int] | None = None
    grid: tuple[int, ...] | None = None
    latent_grid: tuple[int, ...] | None = None
    latent_channels: int | None = None
    scale_sides: tuple[int, ...] = ()
    causal: bool = False
    window: int | None = None
    check: str = UNCHECKED

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
        """Of codes in slots and on the wire: little-endian, 16 bits up to 65,536 codes, else 32."""
        return np.dtype("<u2" if self.codebook_size <= 1 << 16 else "<u4")

    @property
    def frames(self) -> int:
        """Frames that a clip of one token stands for; 1 of pictures."""
        return self.plan_frames(1).padded if self.is_video else 1

    # --- sizes and grids --------------------------------------------------------------------

    def plan_frames(self, count: int) -> FramePlan:
        """What becomes of so many frames."""
        if not self.is_video:
            raise InputError(f"{self.name} takes pictures, which have no frames to plan")
        return plan_frames(count, self.stride[0], causal=self.causal, window=self.window)

    def latent_grid_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """Pixels (H, W) or (T, H, W) -> the grid of vectors; `ImageError` where they do not fit."""
        if self.only_size is not None:
            return self._only_grid(tuple(size))
        return grid_of(size, self.stride, causal=self.causal)

    def grid_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """Pixels (H, W) or (T, H, W) -> the shape of their codes, without the axis Q."""
        grid = self.latent_grid_of(size)
        return (_length(self.scales_of(grid)),) if self.is_multiscale else grid

    def size_of(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The grid of vectors -> the pixels that it stands for."""
        if self.only_size is None:
            return size_of(grid, self.stride, causal=self.causal)
        if tuple(grid) != self.grid:
            raise CodesError(f"a picture has {by(self.grid or ())} codes here; got {by(grid)}")
        return self.only_size

    def scales_of(self, grid: Sequence[int]) -> Scales:
        """Height and width of each scale of a grid of vectors, coarse to fine; () of one scale."""
        whole = self.scale_sides[-1:]
        return tuple(
            (max(1, share(grid[0], side, whole[0])), max(1, share(grid[1], side, whole[0])))
            for side in self.scale_sides
        )

    # --- codes ------------------------------------------------------------------------------

    def codes(
        self,
        ids: npt.NDArray[np.integer],
        size: Sequence[int] | None = None,
        *,
        codebook: str = "",
        scales: Scales = (),
    ) -> Codes:
        """The codes of one picture or clip (*grid[, Q]) as `Codes` that this model can decode.

        A grid (h, w) is a clip of one frame where the model takes clips. Of several scales those of
        the one size are taken where `scales` are not given.

        size      height and width, or frames, height and width, that come back: by default all
        codebook  the print of the codebook that they name, or "" where they name none
        """
        ids = self._shaped(np.asarray(ids))
        sides = 3 if self.is_video else 2
        shown = np.zeros((1, sides), np.int32) if size is None else np.array([size], np.int32)
        found = Codes(ids[None], shown, self.codebook_size, codebook, self.depth, scales)
        self.check_codes(found)
        return self.scaled(found)

    def check_codes(self, codes: Codes) -> None:
        """Raises where this model cannot decode them, as the model itself would."""
        check_codes(codes, self.fingerprint, self, self)
        self._check_axes(codes.ids.shape[1:])
        if self.only_size is not None and codes.grid != self.grid:
            raise CodesError(
                f"a picture has {by(self.grid or ())} codes here; got {by(codes.grid)}"
            )

    def scaled(self, codes: Codes) -> Codes:
        """Codes of several scales that do not say which, with those of the one size."""
        if not self.is_multiscale or codes.scales:
            return codes
        if self.latent_grid is None:
            raise CodesError(
                "codes of several scales do not tell their grid, and pictures of this tokenizer "
                "have several sizes; pass the scales"
            )
        return replace(codes, scales=self.scales_of(self.latent_grid))

    def decoded_size(self, codes: Codes) -> tuple[int, ...]:
        """The pixels that decoding these makes of each picture or clip, before they are cut."""
        return self.size_of(codes.scales[-1] if codes.scales else codes.grid)

    # --- slots ------------------------------------------------------------------------------

    def slot_bytes(self, limits: Limits) -> tuple[int, int]:
        """Bytes that each side of a slot for a picture holds, and of one for what is larger.

        The larger is a clip or, where preprocessing brings pictures to one size, a grid of codes
        that stands for a larger one; it is 0 where there is nothing larger.
        """
        area = self.picture_area(limits)
        picture = self._capacity(self.frames, area, _cells(area, self))
        most = max(area, self.largest_area(limits))
        frames = self.plan_frames(limits.max_frames).padded if self.is_video else 1
        larger = self._capacity(frames, most, _cells(most, self))
        return picture, larger if larger > picture else 0

    def slot_kind(self, size: Sequence[int], limits: Limits) -> int:
        """0 where pixels (H, W) or (T, H, W) go into a slot for a picture, else 1."""
        *frames, height, width = size
        small = height * width <= self.picture_area(limits)
        return 0 if small and math.prod(frames) <= self.frames else 1

    def picture_area(self, limits: Limits) -> int:
        """The most pixels of a prepared picture or frame."""
        settings = self.preprocess
        if not settings.keeps_size:
            return math.prod(settings.sides)
        area = min(settings.max_area or limits.max_area, limits.max_area)
        return area if settings.policy == "native" else _extended(area, settings.stride)

    def largest_area(self, limits: Limits) -> int:
        """The most pixels of a picture or frame that codes may stand for."""
        if self.only_size is not None:
            return math.prod(self.only_size)
        return max(limits.max_area, self.picture_area(limits))

    # --- JSON -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return found | {
            "fingerprint": self.fingerprint.to_dict(),
            "preprocess": self.preprocess.model_dump(mode="json"),
            "is_video": self.is_video,
            "is_multiscale": self.is_multiscale,
            "dtype": self.dtype.name,
            **{name: _listed(found[name]) for name in TUPLES},
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Facts:
        """From what `to_dict` gave; what a later version adds is left out."""
        try:
            given = {field.name: stored[field.name] for field in fields(cls)}
            return cls(
                **given
                | {
                    "fingerprint": Fingerprint.from_dict(given["fingerprint"]),
                    "preprocess": Preprocess(**given["preprocess"]),
                    **{name: _tuple(given[name]) for name in TUPLES},
                }
            )
        except KeyError as error:
            raise LoadError(f"this does not describe a tokenizer: {error} is missing") from None
        except TypeError as error:
            raise LoadError(f"this does not describe a tokenizer: {error}") from None

    # --- inside -----------------------------------------------------------------------------

    def _only_grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        if size != self.only_size or self.latent_grid is None:
            raise ImageError(
                f"the sides of a picture are {by(self.only_size or ())}; got {by(size)}"
            )
        return self.latent_grid

    def _shaped(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        if self.is_video and ids.ndim == 2 + bool(self.depth):
            ids = ids[None]
        self._check_axes(ids.shape)
        return ids

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        names = list("thw"[-self.axes :]) if self.axes > 1 else ["L"]
        deep = self.depth and (not shape or shape[-1] != self.depth)
        if len(shape) != self.axes + bool(self.depth) or deep or 0 in shape:
            axes = ", ".join([*names, *([str(self.depth)] if self.depth else [])])
            raise CodesError(
                f"the codes of a {'clip' if self.is_video else 'picture'} have the shape "
                f"({axes}{',' * (',' not in axes)}) here, with at least one token; got {shape}"
            )

    def _capacity(self, frames: int, area: int, cells: int) -> int:
        tokens = cells * (self.plan_frames(frames).tokens if self.is_video else 1)
        pixels = 3 * frames * area
        codes = tokens * max(1, self.depth, len(self.scale_sides)) * self.dtype.itemsize
        latents = 4 * tokens * (self.latent_channels or 0)
        scales = 8 * len(self.scale_sides)
        whole = codes + scales + max(pixels, latents) + 3 * PART
        return -(-whole // PAGE) * PAGE


TUPLES = ("stride", "only_size", "grid", "latent_grid", "scale_sides")


def describe(tok: VisualTokenizer, name: str, tokenizer: str, *, check: str = UNCHECKED) -> Facts:
    """The facts of a tokenizer; `check` is what its probe said."""
    from vqtok import __version__

    model = tok.model
    quantize: Any = model.quantize
    grids = _grids(tok)
    return Facts(
        name=name,
        tokenizer=tokenizer,
        version=__version__,
        fingerprint=tok.fingerprint,
        precision=tok.precision,
        preprocess=tok.settings,
        codebook_size=tok.codebook_size,
        depth=quantize.depth,
        axes=model.code_axes,
        stride=tuple(model.stride),
        only_size=model.only_size,
        grid=grids[0],
        latent_grid=grids[1],
        latent_channels=quantize.dim,
        scale_sides=tuple(quantize.scales) if tok.is_multiscale else (),
        causal=model.causal,
        window=model.window if tok.is_video else None,
        check=check,
    )


def _grids(tok: VisualTokenizer) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Of codes and of vectors, where all pictures come to one size."""
    if tok.settings.keeps_size:
        return None, None
    frames = (tok.plan_frames(1).padded,) if tok.is_video else ()
    latents = tuple(tok.model.grid_of((*frames, *tok.settings.sides)))
    quantize = tok.model.quantize
    codes = tuple(quantize.codes_shape(latents))
    return (codes[:-1] if quantize.depth else codes), latents


def _cells(area: int, facts: Facts) -> int:
    """The most tokens of a frame with so many pixels."""
    if facts.only_size is not None and facts.grid is not None:
        return math.prod(facts.grid)
    return -(-area // math.prod(facts.stride[-2:]))


def _extended(area: int, stride: int) -> int:
    """The most pixels where both sides of a picture are extended to a multiple of the stride."""
    long, short = math.isqrt(area * MAX_ASPECT) + 1, math.isqrt(area) + 1
    return area + stride * (long + short) + stride**2


def _length(scales: Scales) -> int:
    return sum(height * width for height, width in scales)


def _listed(value: tuple[int, ...] | None) -> list[int] | None:
    return None if value is None else list(value)


def _tuple(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)

"""What a process that holds no model knows about one: enough to check pictures and codes. Importing
this brings no torch.

How facts come of a tokenizer is in `vqtok.serve.describe`, how large slots are in
`vqtok.serve.room`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vqtok.errors import CodesError, ImageError, InputError, LoadError
from vqtok.frames import FramePlan, plan_frames
from vqtok.preprocess import Preprocess
from vqtok.serve import room
from vqtok.serve.room import Limits
from vqtok.strides import Scales, by, check_codes, check_sizes, grid_of, share, size_of
from vqtok.types import Codes, Fingerprint, axes_text, code_dtype

__all__ = ["UNCHECKED", "Facts", "Limits"]

UNCHECKED = "unchecked"


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
        """Of codes in slots and on the wire."""
        return code_dtype(self.codebook_size)

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

        size      height and width, or frames, height and width, that come back: by default all. Of
                  height and width alone a clip of one frame comes back as a picture
        codebook  the print of the codebook that they name, or "" where they name none
        """
        ids = self._shaped(np.asarray(ids))
        sides = 3 if self.is_video else 2
        shown = np.zeros((1, sides), np.int32) if size is None else np.array([size], np.int32)
        found = Codes(ids[None], shown, self.codebook_size, codebook, self.depth, scales)
        self.check_codes(found)
        return self.scaled(found)

    def check_codes(self, codes: Codes) -> None:
        """Raises where this model cannot decode them, as the model itself would.

        The size (h, w) of a clip's codes stands for a picture, which is a clip of one frame.
        """
        sizes = self._with_frames(codes.sizes)
        whole = codes if sizes is codes.sizes else replace(codes, sizes=sizes)
        check_codes(whole, self.fingerprint, self, self)
        self._check_axes(codes.ids.shape[1:])
        if self.only_size is not None and codes.grid != self.grid:
            raise CodesError(
                f"a picture has {by(self.grid or ())} codes here; got {by(codes.grid)}"
            )

    def check_size(self, grid: Sequence[int], size: Sequence[int]) -> None:
        """Raises where vectors of a grid do not stand for pixels of that size; () is not known."""
        if not size:
            return
        sizes = self._with_frames(np.array([size], np.int32))
        check_sizes(self, Codes(np.zeros((1, *grid), np.uint8), sizes, 1))

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
        """See `vqtok.serve.room`."""
        return room.slot_bytes(self, limits)

    def slot_kind(self, size: Sequence[int], limits: Limits) -> int:
        """See `vqtok.serve.room`."""
        return room.slot_kind(self, size, limits)

    def largest_area(self, limits: Limits) -> int:
        """See `vqtok.serve.room`."""
        return room.largest_area(self, limits)

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

    def _with_frames(self, sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Sizes (N, 2) where clips are taken -> (N, 3), of one frame each; 0 stays not known."""
        if not self.is_video or sizes.shape[1] == 3:
            return sizes
        return np.column_stack([sizes.any(axis=1).astype(sizes.dtype), sizes])

    def _shaped(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        if self.is_video and ids.ndim == 2 + bool(self.depth):
            ids = ids[None]
        self._check_axes(ids.shape)
        return ids

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        deep = self.depth and (not shape or shape[-1] != self.depth)
        if len(shape) != self.axes + bool(self.depth) or deep or 0 in shape:
            raise CodesError(
                f"the codes of a {'clip' if self.is_video else 'picture'} have the shape "
                f"{axes_text(self.axes, self.depth)} here, with at least one token; got {shape}"
            )


TUPLES = ("stride", "only_size", "grid", "latent_grid", "scale_sides")


def _length(scales: Scales) -> int:
    return sum(height * width for height, width in scales)


def _listed(value: tuple[int, ...] | None) -> list[int] | None:
    return None if value is None else list(value)


def _tuple(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)

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

from vqtok.errors import CodesError, LoadError
from vqtok.preprocess import Preprocess
from vqtok.serve import room
from vqtok.serve.room import Limits
from vqtok.strides import Scales
from vqtok.traits import Traits, check_codes, check_sizes
from vqtok.types import Codes, Fingerprint
from vqtok.verdicts import ProbeResult

__all__ = ["UNCHECKED", "Facts", "Limits"]

UNCHECKED = ProbeResult("unchecked").summary


@dataclass(frozen=True)
class Facts:
    """One tokenizer as it is served. Frozen, picklable, and JSON by `to_dict`.

    name       in paths
    tokenizer  as whoever started the server named it
    version    of vqtok
    traits     of its model, whose `latent_channels` is None where the server gives no latents
    check      what its probe said when it was loaded: "exact", "near ties (2)", ...
    """

    name: str
    tokenizer: str
    version: str
    fingerprint: Fingerprint
    precision: str
    preprocess: Preprocess
    traits: Traits
    check: str = UNCHECKED

    @property
    def latent_grid(self) -> tuple[int, ...] | None:
        """Of the vectors of a picture, where preprocessing brings all to one size; None else.

        (h, w), (1, h, w) where it is a clip of one frame, (L,) of a sequence.
        """
        size = self._one_size()
        return None if size is None else self.traits.latent_grid_of(size)

    @property
    def grid(self) -> tuple[int, ...] | None:
        """Of its codes, likewise; those of several scales are a sequence."""
        size = self._one_size()
        return None if size is None else self.traits.grid_of(size)

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
        traits = self.traits
        sides = len(traits.stride)
        shown = np.zeros((1, sides), np.int32) if size is None else np.array([size], np.int32)
        found = Codes(ids[None], shown, traits.codebook_size, codebook, traits.depth, scales)
        self.check_codes(found)
        return self.scaled(found)

    def check_codes(self, codes: Codes) -> None:
        """Raises where this model cannot decode them, as the model itself would.

        The size (h, w) of a clip's codes stands for a picture, which is a clip of one frame.
        """
        sizes = self._with_frames(codes.sizes)
        whole = codes if sizes is codes.sizes else replace(codes, sizes=sizes)
        check_codes(whole, self.fingerprint, self.traits)
        self.traits.check_shape(codes.ids.shape[1:])

    def check_size(self, grid: Sequence[int], size: Sequence[int]) -> None:
        """Raises where vectors of a grid do not stand for pixels of that size; () is not known."""
        if not size:
            return
        sizes = self._with_frames(np.array([size], np.int32))
        check_sizes(Codes(np.zeros((1, *grid), np.uint8), sizes, 1), self.traits)

    def scaled(self, codes: Codes) -> Codes:
        """Codes of several scales that do not say which, with those of the one size."""
        if not self.traits.is_multiscale or codes.scales:
            return codes
        grid = self.latent_grid
        if grid is None:
            raise CodesError(
                "codes of several scales do not tell their grid, and pictures of this tokenizer "
                "have several sizes; pass the scales"
            )
        return replace(codes, scales=self.traits.scales_of(grid))

    def decoded_size(self, codes: Codes) -> tuple[int, ...]:
        """The pixels that decoding these makes of each picture or clip, before they are cut."""
        return self.traits.size_of(codes.scales[-1] if codes.scales else codes.grid)

    # --- slots ------------------------------------------------------------------------------

    def slot_bytes(self, limits: Limits) -> tuple[int, int]:
        """See `vqtok.serve.room`."""
        return room.slot_bytes(self, limits)

    def slot_kind(self, size: Sequence[int], limits: Limits) -> int:
        """See `vqtok.serve.room`."""
        return room.slot_kind(self, size, limits)

    def chunk_frames(self, limits: Limits) -> int:
        """See `vqtok.serve.room`."""
        return room.chunk_frames(self, limits)

    def largest_area(self, limits: Limits) -> int:
        """See `vqtok.serve.room`."""
        return room.largest_area(self, limits)

    # --- JSON -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """For JSON, where traits stand beside the rest; `from_dict` reads it."""
        traits = self.traits.to_dict()
        traits.pop("only_grid")  # which is the grid of all pictures
        return {
            "name": self.name,
            "tokenizer": self.tokenizer,
            "version": self.version,
            "fingerprint": self.fingerprint.to_dict(),
            "precision": self.precision,
            "preprocess": self.preprocess.model_dump(mode="json"),
            **traits,
            "grid": _listed(self.grid),
            "latent_grid": _listed(self.latent_grid),
            "check": self.check,
            "is_video": self.traits.is_video,
            "is_multiscale": self.traits.is_multiscale,
            "dtype": self.traits.dtype.name,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Facts:
        """From what `to_dict` gave; what a later version adds is left out."""
        try:
            only_grid = None if stored["only_size"] is None else stored["latent_grid"]
            traits = {**stored, "only_grid": only_grid}
            return cls(
                name=stored["name"],
                tokenizer=stored["tokenizer"],
                version=stored["version"],
                fingerprint=Fingerprint.from_dict(stored["fingerprint"]),
                precision=stored["precision"],
                preprocess=Preprocess(**stored["preprocess"]),
                traits=Traits.from_dict({name: traits[name] for name in TRAITS}),
                check=stored["check"],
            )
        except KeyError as error:
            raise LoadError(f"this does not describe a tokenizer: {error} is missing") from None
        except TypeError as error:
            raise LoadError(f"this does not describe a tokenizer: {error}") from None

    # --- inside -----------------------------------------------------------------------------

    def _one_size(self) -> tuple[int, ...] | None:
        """Of a picture, as a clip of one token where it is one."""
        if self.preprocess.keeps_size:
            return None
        frames = (self.traits.frames,) * self.traits.is_video
        return (*frames, *self.preprocess.sides)

    def _with_frames(self, sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Sizes (N, 2) where clips are taken -> (N, 3), of one frame each; 0 stays not known."""
        if not self.traits.is_video or sizes.shape[1] == 3:
            return sizes
        return np.column_stack([sizes.any(axis=1).astype(sizes.dtype), sizes])

    def _shaped(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        if self.traits.is_video and ids.ndim == 2 + bool(self.traits.depth):
            ids = ids[None]
        self.traits.check_shape(ids.shape)
        return ids


TRAITS = [field.name for field in fields(Traits)]


def _listed(value: tuple[int, ...] | None) -> list[int] | None:
    return None if value is None else list(value)

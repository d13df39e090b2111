"""Pictures and clips to grids of codes and back: a tokenizer before its codes become ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from vqtok import batches, clips
from vqtok.errors import CodesError, ConfigError, InputError
from vqtok.extras import require
from vqtok.preprocess import Preprocess
from vqtok.sequences import OutputType, as_output, check_output_type, parse_grid
from vqtok.strides import Scales
from vqtok.token_ids import Grid, TokenIds
from vqtok.types import ClipCodec, Codec, Codes

if TYPE_CHECKING:
    from torch import Tensor

    from vqtok.autoencoders import AutoencoderBase
    from vqtok.codec import TorchCodec
    from vqtok.frames import FramePlan

__all__ = ["GridCodes"]


class GridCodes(TokenIds):
    """What a tokenizer does with a preprocessing rule and a codec."""

    codec: Codec
    settings: Preprocess

    @property
    def has_model(self) -> bool:
        """Whether it runs on torch in this process, so that it has a model, vectors and latents."""
        return hasattr(self.codec, "model")  # without an import, for it brings torch

    @property
    def model(self) -> AutoencoderBase:
        """The autoencoder."""
        model: AutoencoderBase = self._torch_codec().model
        return model

    @property
    def batch_size(self) -> int:
        """Pictures of one size that go through the model together; ids do not depend on it."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"batch_size is a whole number, at least 1; got {size!r}")
        self._batch_size = size

    @property
    def is_video(self) -> bool:
        """Whether it takes clips; a picture is a clip of one frame then."""
        return self.codec.traits.is_video

    @property
    def grid_axes(self) -> int:
        """See `TokenIds.grid_axes`."""
        return 3 if self.is_video else super().grid_axes

    @property
    def is_multiscale(self) -> bool:
        """Whether the codes of several grids follow each other, coarse to fine."""
        return self.codec.traits.is_multiscale

    @property
    def codebook(self) -> Tensor:
        """(K, D) float32: the codes as vectors."""
        if self.vocab.depth:
            raise InputError(
                f"this tokenizer has {self.vocab.depth} codes a token and no single codebook; "
                "see `model.quantize`"
            )
        return self.vectors(np.arange(self.codebook_size))

    def encode_codes(self, images: Any) -> list[Tensor]:
        """Pictures -> a LongTensor (h, w), or (h, w, Q), for each; sizes may differ.

        A picture is a path, bytes, a PIL image, an array or a tensor (`vqtok.preprocess`), or there
        are several in any collection. Of those that an iterator yields memory holds a few at once.
        Clips, where the tokenizer takes them (`vqtok.streams`), give (t, h, w). Where codes are no
        grid, they are (L,). The last frame of a clip is repeated until its token is full, as
        `plan_frames` says. Grids alone do not tell what was added to fill whole tokens: what
        `encode_clip` gives comes back as long and large as it went in.
        """
        torch = require("torch", "torch", "grids of codes are made tensors, not numpy's arrays,")
        found = self.encode_images(images)
        return [torch.from_numpy(codes.ids[0].astype(np.int64)) for codes in found]

    def encode_images(self, images: Any) -> list[Codes]:
        """As `encode_codes`, but `Codes`, each a batch of one, with the size that comes back.

        They are numpy arrays, for those who have no torch.
        """
        if isinstance(self.codec, ClipCodec):
            return clips.encode_clips(self.codec, self.settings, images)
        return batches.encode_images(self.codec, self.settings, images, self.batch_size)

    def encode_pixels(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> list[Codes]:
        """Preprocessed pixels, uint8 (h, w, 3) each -> codes, each a batch of one."""
        return batches.encode_pixels(self.codec, pixels, self.batch_size)

    def encode_clip(self, clip: Any) -> Codes:
        """One clip, from any source, however long -> its codes, a batch of one.

        Memory holds a few frames at a time, where the source is read as it goes.
        """
        return clips.encode_clip(self._clip_codec(), self.settings, clip)

    def plan_frames(self, count: int) -> FramePlan:
        """How a clip of so many frames is padded, how many tokens it takes, and what comes back."""
        return self._clip_codec().plan_frames(count)

    def decode_codes(
        self,
        codes: Codes | Iterable[Any],
        output_type: OutputType = "pil",
        grids: Iterable[Grid | None] | None = None,
    ) -> list[Any]:
        """Grids of codes (h, w), (t, h, w) or (L,), or with an axis Q -> pictures or clips.

        A picture is a PIL image, a uint8 array (H, W, 3) or a tensor (3, H, W), as `output_type`
        "pil", "np" or "pt" says; a clip a list of such images, (T, H, W, 3) or (T, 3, H, W).
        `Codes` of another codebook are a `MismatchError`. Codes of several scales (L,) may need
        `grids`, the (h, w) of each finest scale: see `MultiscaleQuantizer`.
        """
        check_output_type(output_type)
        found = self._as_codes(codes, grids)
        if self.is_video:
            return [clips.as_clip_output(self.decode_clip(one), output_type) for one in found]
        pictures: list[Any] = [None] * len(found)
        for row, pixels in batches.decoded(self.codec, found, self.batch_size):
            pictures[row] = as_output(pixels, output_type)
        return pictures

    def decode_clip(self, codes: Codes) -> Iterator[npt.NDArray[np.uint8]]:
        """The codes of one clip -> its frames (H, W, 3) uint8, one by one, as many as went in."""
        return self._clip_codec().decode_frames(codes)

    def latents(self, codes: Codes | Iterable[Any]) -> list[Tensor]:
        """Grids of codes -> the vectors that they stand for, (D, *grid) float32 each."""
        codec = self._torch_codec()
        return [codec.latents(one)[0] for one in self._as_codes(codes)]

    def vectors(self, codes: Any) -> Tensor:
        """Codes one by one, (N,) or (N, Q) -> the vectors that they stand for, (N, D) float32."""
        return self._torch_codec().vectors(np.asarray(codes))

    # --- inside -----------------------------------------------------------------------------

    def _as_codes(self, codes: Any, grids: Iterable[Grid | None] | None = None) -> list[Codes]:
        found = batches.as_codes(codes, self.codebook_size, self.vocab.depth, self.grid_axes)
        if not self.is_multiscale:
            return found
        shapes = [None] * len(found) if grids is None else list(grids)
        if len(shapes) != len(found):
            raise CodesError(f"there are codes of {len(found)} pictures and {len(shapes)} grids")
        pairs = zip(found, shapes, strict=True)
        return [one if one.scales else self._scaled(one, shape) for one, shape in pairs]

    def _scaled(self, codes: Codes, shape: Grid | None) -> Codes:
        """Codes of one picture, with the scales of its grid; by default that of all pictures."""
        return replace(codes, scales=self._scales(shape))

    def _scales(self, shape: Grid | None) -> Scales:
        traits = self.codec.traits
        if not traits.is_multiscale:
            return ()
        if shape is not None:
            return traits.scales_of(parse_grid(shape))
        if self.settings.size is None:
            raise CodesError(
                "codes of several scales do not tell their grid, and pictures of this tokenizer "
                "have several sizes; pass the grid (h, w)"
            )
        return traits.scales_of(traits.latent_grid_of(self.settings.sides))

    def _grid(self, shape: Grid | None) -> tuple[int, ...] | None:
        """The grid that flat ids have; of several scales it does not tell their number at once."""
        if shape is None:
            return None
        if self.is_multiscale:
            return (sum(height * width for height, width in self._scales(shape)),)
        return parse_grid(shape, self.grid_axes)

    def _clip_codec(self) -> ClipCodec:
        if not isinstance(self.codec, ClipCodec):
            raise InputError("this tokenizer takes pictures, not clips")
        return self.codec

    def _torch_codec(self) -> TorchCodec:
        if not self.has_model:
            raise InputError(
                f"this tokenizer runs on {self.codec.runs_on} here, which gives codes and pixels "
                "alone; the model itself, its vectors and latents need torch"
            )
        return cast("TorchCodec", self.codec)

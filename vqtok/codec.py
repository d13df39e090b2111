"""A torch autoencoder as a `Codec`: uint8 pixels to codes and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.building import execution_device
from vqtok.autoencoders.grids import by
from vqtok.autoencoders.latents import encode_latents
from vqtok.errors import CodesError, ConfigError, ImageError, InputError, MismatchError
from vqtok.layouts import integers
from vqtok.metrics.pixels import to_uint8
from vqtok.pictures import Pixels
from vqtok.precision import Precision, check_precision
from vqtok.preprocess import Preprocess
from vqtok.types import Codes, Fingerprint
from vqtok.vocab import VisualVocab

__all__ = ["TorchCodec", "check_device", "check_parts", "check_sizes"]

Scales = tuple[tuple[int, int], ...]


def check_device(device: str | int | torch.device) -> None:
    """Raises where torch has no such device here."""
    if isinstance(device, torch.dtype):
        raise InputError(
            f"a tokenizer is moved to a device, not cast; got {device}. Its weights stay float32; "
            "for faster arithmetic load it with another precision"
        )
    try:
        torch.zeros(1, device=device).item()  # read, for "meta" makes tensors that hold nothing
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"there is no device {str(device)!r} here: {reason}") from error


def check_parts(model: AutoencoderBase, settings: Preprocess, vocab: VisualVocab) -> None:
    """Raises where a model, preprocessing and a vocabulary are not those of one tokenizer."""
    own = model.quantize.codebook_size, model.quantize.depth
    if (vocab.codebook_size, vocab.depth) != own:
        raise MismatchError(
            f"the vocabulary is for codebook_size={vocab.codebook_size} and depth={vocab.depth}, "
            f"the model has codebook_size={own[0]} and depth={own[1]}"
        )
    flat = model.code_axes == 1
    if vocab.is_flat != flat:
        raise MismatchError(
            f"the codes of this model are {'one sequence' if flat else 'a grid'}, and the "
            f"vocabulary has order={vocab.order!r}; "
            + ("take 'sequence'" if flat else "take 'raster' or 'column'")
        )
    own_size = settings.size is None
    sides = (settings.stride,) * 2 if own_size else settings.sides
    frames = model.size_of((1,) * 3)[:1] if model.is_video else ()
    try:
        model.grid_of((*frames, *sides))
    except ImageError as error:
        named = f"stride={settings.stride}" if own_size else f"size={settings.size}"
        raise MismatchError(f"preprocessing with {named} does not fit the model: {error}") from None


def check_sizes(model: AutoencoderBase, codes: Codes) -> None:
    """Raises where codes claim to stand for more pixels than their grid does, or for too few.

    Less than a grid stands for is what remains when repeated frames and edges are cut off: they
    never fill a whole token. 0 is a side that is not known.
    """
    grid = codes.scales[-1] if codes.scales else codes.grid
    if len(grid) != len(model.stride) and model.only_size is None:
        return  # a sequence that does not say of which grid
    most = model.size_of(grid)
    less = tuple(cells - 1 for cells in grid)
    least = [1] * len(most)
    if model.only_size is None:
        least = [max(0, side) + 1 for side in model.size_of(less)]
    for size in codes.sizes.tolist():
        ranges = zip(size, least, most, strict=False)
        if any(side and not low <= side <= high for side, low, high in ranges):
            raise CodesError(
                f"a grid of {by(grid)} codes stands for {by(least)} to {by(most)} pixels, "
                f"{'frames, ' * (len(most) == 3)}height and width; got the size {size}"
            )


class TorchCodec:
    """A model, put in eval mode, its fingerprint, and the arithmetic to run it in."""

    def __init__(
        self, model: AutoencoderBase, fingerprint: Fingerprint, precision: str = "ieee32"
    ) -> None:
        self.model = model.eval()
        self._fingerprint = fingerprint
        self.requested_precision = check_precision(precision)

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Encoder.fingerprint`."""
        return self._fingerprint

    @property
    def precision(self) -> Precision:
        """See `Encoder.precision`; that of the weights, where somebody has cast them down."""
        halves: dict[torch.dtype, Precision] = {torch.float16: "fp16", torch.bfloat16: "bf16"}
        return halves.get(self.model.dtype, self.requested_precision)

    def encode(self, pixels: Pixels) -> Codes:
        """See `Encoder.encode`."""
        x = self._batch(pixels, "pictures", "H, W")
        return self._of_pictures(self.model.encode_codes(x, self.requested_precision), pixels)

    def encode_latents(self, pixels: Pixels) -> tuple[npt.NDArray[np.float32], Codes]:
        """As `encode`, and the latents (N, D, *grid) before quantization that it is of."""
        x = self._batch(pixels, "pictures", "H, W")
        latents, ids = encode_latents(self.model, x, self.requested_precision)
        return latents.float().cpu().numpy(), self._of_pictures(ids, pixels)

    def _of_pictures(self, ids: Tensor, pixels: Pixels) -> Codes:
        size = pixels.shape[1:-1]
        return self._codes(ids, size, self.model.quantize.scales_of(self.model.grid_of(size)))

    def decode(self, codes: Codes) -> Pixels:
        """See `Codec.decode`."""
        ids, grid = self._tensor(codes)
        return to_uint8(self.model.decode_codes(ids, self.requested_precision, grid))

    def latents(self, codes: Codes) -> Tensor:
        """Codes of N grids -> the vectors that they stand for, (N, D, *grid) float32."""
        ids, grid = self._tensor(codes)
        with torch.no_grad():
            vectors: Tensor = self.model.quantize.decode(ids.to(self.model.device), grid)
        return vectors

    def vectors(self, ids: npt.NDArray[np.integer]) -> Tensor:
        """Codes one by one, (N,) or (N, Q) -> the vectors that they stand for, (N, D) float32."""
        codes = torch.from_numpy(integers(ids, "codes").astype(np.int64)).to(self.model.device)
        with torch.no_grad():
            vectors: Tensor = self.model.quantize.vectors(codes)
        return vectors

    def check(self, codes: Codes) -> None:
        """Raises where codes were made with another codebook."""
        if not self._fingerprint.can_decode(codes):
            raise MismatchError(
                f"these codes were made with the codebook {codes.codebook[:16]} and cannot be "
                f"decoded by a tokenizer whose codebook is {self._fingerprint.codebook[:16]}"
            )
        quantize = self.model.quantize
        if (codes.codebook_size, codes.depth) != (quantize.codebook_size, quantize.depth):
            raise MismatchError(
                f"these codes have codebook_size={codes.codebook_size} and depth={codes.depth}; "
                f"this tokenizer decodes codebook_size={quantize.codebook_size} and "
                f"depth={quantize.depth}"
            )
        if codes.scales and codes.scales != (own := quantize.scales_of(codes.scales[-1])):
            raise MismatchError(
                f"these codes have the scales {_shown(codes.scales)}; this tokenizer cuts a grid "
                f"of {_shown(codes.scales[-1:])} into {_shown(own) or 'none'}"
            )
        check_sizes(self.model, codes)

    def _batch(self, pixels: Pixels, what: str, shape: str) -> Tensor:
        """(N, ..., 3) uint8 -> (N, 3, ...); `what` has the axes `shape` in between."""
        axes = len(self.model.stride)
        if pixels.dtype != np.uint8 or pixels.ndim != 2 + axes or pixels.shape[-1] != 3:
            raise ImageError(
                f"a batch of {what} is a uint8 array of the shape (N, {shape}, 3); got "
                f"{pixels.dtype} {pixels.shape}"
            )
        x = torch.from_numpy(np.ascontiguousarray(pixels))
        device = execution_device(self.model)
        if device.type == "cuda":
            # As bytes, a quarter of what floats are; from pinned memory nobody waits for it.
            x = x.to(device, non_blocking=True)
        return x.movedim(-1, 1).contiguous()

    def _codes(self, ids: Tensor, size: tuple[int, ...], scales: Scales = ()) -> Codes:
        """Ids (N, *grid) of pictures or clips of one size as `Codes`."""
        quantize = self.model.quantize
        return Codes(
            ids.cpu().numpy(),
            np.tile(np.array(size, np.int32), (len(ids), 1)),
            quantize.codebook_size,
            self._fingerprint.codebook,
            quantize.depth,
            scales,
        )

    def _tensor(self, codes: Codes) -> tuple[Tensor, tuple[int, int] | None]:
        """Codes that may be decoded as a tensor, and the grid that several scales cover."""
        self.check(codes)
        return torch.from_numpy(codes.ids.astype(np.int64)), next(iter(codes.scales[-1:]), None)


def _shown(scales: Scales) -> str:
    return " ".join(f"{height}x{width}" for height, width in scales)

"""A torch autoencoder as a `Codec`: uint8 pixels to codes and back.

Where it takes clips, so does the codec: (N, T, H, W, 3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase
from vqtok.errors import ConfigError, ImageError, InputError, MismatchError
from vqtok.metrics.pixels import to_uint8
from vqtok.precision import Precision, check_precision
from vqtok.preprocess import Preprocess
from vqtok.types import Codes, Fingerprint
from vqtok.vocab import VisualVocab

__all__ = ["TorchCodec", "check_device", "check_parts"]


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
    if len(model.stride) != 2:
        raise MismatchError(
            f"a VisualTokenizer takes pictures, and {type(model).__name__} is a model of clips: "
            "call its encode_codes and decode_codes"
        )
    own = model.quantize.codebook_size, model.quantize.depth
    if (vocab.codebook_size, vocab.depth) != own:
        raise MismatchError(
            f"the vocabulary is for codebook_size={vocab.codebook_size} and depth={vocab.depth}, "
            f"the model has codebook_size={own[0]} and depth={own[1]}"
        )
    native = settings.policy == "native"
    sides = (settings.stride,) * 2 if native else settings.sides
    if any(side % step for side, step in zip(sides, model.stride, strict=True)):
        named = f"stride={settings.stride}" if native else f"size={settings.size}"
        raise MismatchError(
            f"the model takes pictures whose sides are multiples of "
            f"{' x '.join(map(str, model.stride))}; preprocessing with {named} makes others"
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

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Codes:
        """See `Encoder.encode`."""
        axes = len(self.model.stride)
        if pixels.dtype != np.uint8 or pixels.ndim != 2 + axes or pixels.shape[-1] != 3:
            what, shape = ("pictures", "H, W") if axes == 2 else ("clips", "T, H, W")
            raise ImageError(
                f"a batch of {what} is a uint8 array of the shape (N, {shape}, 3); got "
                f"{pixels.dtype} {pixels.shape}"
            )
        x = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 1).contiguous()
        ids = self.model.encode_codes(x, self.requested_precision).cpu().numpy()
        size = np.array(pixels.shape[-3:-1], np.int32)
        return self.codes(ids, np.tile(size, (len(ids), 1)))

    def decode(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """See `Codec.decode`."""
        self.check(codes)
        pixels = self.model.decode_codes(self._tensor(codes), self.requested_precision)
        if pixels.ndim == 4:
            return to_uint8(pixels)
        frames = to_uint8(rearrange(pixels, "n c t h w -> (n t) c h w"))
        return rearrange(frames, "(n t) h w c -> n t h w c", n=len(codes))

    def latents(self, codes: Codes) -> Tensor:
        """Codes of N grids -> the vectors that they stand for, (N, D, *grid) float32."""
        self.check(codes)
        with torch.no_grad():
            vectors: Tensor = self.model.quantize.decode(self._tensor(codes).to(self.model.device))
        return vectors

    def codes(self, ids: npt.NDArray[np.int64], sizes: npt.NDArray[np.int32]) -> Codes:
        """Ids (N, *grid) of this codebook as `Codes`."""
        quantize = self.model.quantize
        return Codes(ids, sizes, quantize.codebook_size, self._fingerprint.codebook, quantize.depth)

    def check(self, codes: Codes) -> None:
        """Raises where codes were made with another codebook."""
        if not self._fingerprint.can_decode(codes):
            raise MismatchError(
                f"these codes were made with the codebook {codes.codebook[:16]} and cannot be "
                f"decoded by a tokenizer whose codebook is {self._fingerprint.codebook[:16]}"
            )
        own = self.model.quantize.codebook_size, self.model.quantize.depth
        if (codes.codebook_size, codes.depth) != own:
            raise MismatchError(
                f"these codes have codebook_size={codes.codebook_size} and depth={codes.depth}; "
                f"this tokenizer decodes codebook_size={own[0]} and depth={own[1]}"
            )

    def _tensor(self, codes: Codes) -> Tensor:
        return torch.from_numpy(codes.ids.astype(np.int64))

"""A torch autoencoder as a `Codec`: uint8 pixels to codes and back."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.building import execution_device
from vqtok.autoencoders.latents import encode_latents
from vqtok.errors import ConfigError, ImageError, InputError
from vqtok.layouts import integers
from vqtok.metrics.pixels import to_uint8
from vqtok.pictures import Pixels
from vqtok.precision import Precision, arithmetic, check_precision
from vqtok.probe import check_at_start
from vqtok.strides import Scales
from vqtok.traits import Traits, check_codes
from vqtok.types import Codes, Fingerprint
from vqtok.verdicts import ProbeResult

__all__ = ["TorchCodec", "check_device"]


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


class TorchCodec:
    """A model, put in eval mode, its fingerprint, and the arithmetic to run it in.

    variant  of the weights in the folder that the model is from
    """

    runs_on = "torch"

    def __init__(
        self,
        model: AutoencoderBase,
        fingerprint: Fingerprint,
        precision: str = "ieee32",
        variant: str | None = None,
    ) -> None:
        self.model = model.eval()
        self._fingerprint = fingerprint
        self.requested_precision = check_precision(precision)
        self.variant = variant
        self._traits = Traits.of(model)

    def with_fingerprint(self, fingerprint: Fingerprint) -> Self:
        """The same model under another print, which other preprocessing gives it."""
        other = copy(self)
        other._fingerprint = fingerprint
        return other

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Encoder.fingerprint`."""
        return self._fingerprint

    @property
    def precision(self) -> Precision:
        """See `Encoder.precision`; that of the weights, where somebody has cast them down."""
        halves: dict[torch.dtype, Precision] = {torch.float16: "fp16", torch.bfloat16: "bf16"}
        return halves.get(self.model.dtype, self.requested_precision)

    @property
    def traits(self) -> Traits:
        """See `Codec.traits`."""
        return self._traits

    @property
    def device(self) -> torch.device:
        """See `Codec.device`."""
        device: torch.device = self.model.device
        return device

    @property
    def folder(self) -> str | None:
        """Where the model was loaded from, if it was."""
        name: str | None = self.model.config.get("_name_or_path")
        return name or None

    def to(self, device: str | int | torch.device) -> None:
        """Moves the model; `ConfigError` where torch has no such device here."""
        check_device(device)
        self.model.to(device)

    def verify(self) -> ProbeResult:
        """See `Codec.verify`; a model that is from no folder is "unchecked"."""
        return check_at_start(self.model, self.precision, self.variant)

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
        return self._codes(ids, size, self._traits.scales_of(self._traits.latent_grid_of(size)))

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

    def quantized(self, latents: npt.NDArray[np.float32]) -> Codes:
        """Latents (N, D, *grid) before quantization, as `encode_latents` gives them -> codes.

        They do not tell the sizes of pictures, or how much of a clip was repeated.
        """
        ids = self._quantized(_floats(latents))
        scales = self._traits.scales_of(latents.shape[2:])
        return self._codes(ids, (0,) * len(self._traits.stride), scales)

    def decode_latents(self, latents: npt.NDArray[np.float32]) -> Pixels:
        """Latents (N, D, *grid) before quantization -> what decoding their codes gives."""
        return self.decode(self.quantized(latents))

    def vectors(self, ids: npt.NDArray[np.integer]) -> Tensor:
        """Codes one by one, (N,) or (N, Q) -> the vectors that they stand for, (N, D) float32."""
        codes = torch.from_numpy(integers(ids, "codes").astype(np.int64)).to(self.model.device)
        with torch.no_grad():
            vectors: Tensor = self.model.quantize.vectors(codes)
        return vectors

    def check(self, codes: Codes) -> None:
        """Raises where codes were made with another codebook."""
        check_codes(codes, self._fingerprint, self._traits)

    def _batch(self, pixels: Pixels, what: str, shape: str) -> Tensor:
        """(N, ..., 3) uint8 -> (N, 3, ...); `what` has the axes `shape` in between."""
        axes = len(self._traits.stride)
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

    @torch.no_grad()
    def _quantized(self, latents: Tensor) -> Tensor:
        traits = self._traits
        axes = ", ".join("thw"[-len(traits.stride) :]) if traits.only_size is None else "L"
        if latents.ndim != 3 + axes.count(",") or latents.shape[1] != traits.latent_channels:
            raise InputError(
                f"latents of this model have the shape (N, {traits.latent_channels}, {axes}); got "
                f"{tuple(latents.shape)}"
            )
        device = execution_device(self.model)
        with arithmetic(self.requested_precision, device):
            ids: Tensor = self.model.quantize.encode(latents.to(device))
        return ids

    def _codes(self, ids: Tensor, size: tuple[int, ...], scales: Scales = ()) -> Codes:
        """Ids (N, *grid) of pictures or clips of one size as `Codes`."""
        return Codes(
            ids.cpu().numpy(),
            np.tile(np.array(size, np.int32), (len(ids), 1)),
            self._traits.codebook_size,
            self._fingerprint.codebook,
            self._traits.depth,
            scales,
        )

    def _tensor(self, codes: Codes) -> tuple[Tensor, tuple[int, int] | None]:
        """Codes that may be decoded as a tensor, and the grid that several scales cover."""
        self.check(codes)
        return torch.from_numpy(codes.ids.astype(np.int64)), next(iter(codes.scales[-1:]), None)


def _floats(latents: npt.NDArray[np.float32]) -> Tensor:
    """Latents as a tensor; `InputError` where they are not finite floats."""
    if latents.dtype != np.float32:
        raise InputError(f"latents are float32; got {latents.dtype}")
    if not latents.size or not np.isfinite(latents).all():
        raise InputError("latents are finite numbers, at least one; got some that are not, or none")
    return torch.from_numpy(np.ascontiguousarray(latents))

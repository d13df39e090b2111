"""The two halves of a model as modules of one tensor in and one out, as graphs have them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vqtok.autoencoders import AutoencoderBase
from vqtok.export.norms import in_stages
from vqtok.export.settings import Dtype, ExportSettings
from vqtok.export.tables import settle
from vqtok.metrics.pixels import from_uint8

__all__ = ["NOT_FINITE", "Decode", "Encode", "halves"]

# The id of all tokens of a picture whose latents overflow: a graph raises no error.
NOT_FINITE = -1


class Encode(nn.Module):
    """Pixels -> codes, as `TorchCodec.encode` makes them; see `ExportSettings` for both."""

    def __init__(self, model: AutoencoderBase, settings: ExportSettings) -> None:
        super().__init__()
        self.model = model
        self.bytes = settings.pixels == "uint8"
        self.network = model.dtype
        self.ids = getattr(torch, settings.codes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, *size, 3) uint8, or (N, 3, *size) float32 in [0, 1] -> (N, *grid[, Q])."""
        x = from_uint8(pixels.movedim(-1, 1)) if self.bytes else pixels * 2 - 1
        latents = self.model.encode(x.to(self.network), return_dict=False)[0].float()
        codes = self.model.quantize.encode(latents)
        # A count, since ONNX Runtime's symbolic shape inference knows sums, and not "all".
        broken = latents.isfinite().logical_not().sum(tuple(range(1, latents.ndim)))
        whole = (broken == 0).view(-1, *(1,) * (codes.ndim - 1))
        return torch.where(whole, codes, NOT_FINITE).to(self.ids)


class Decode(nn.Module):
    """Codes -> pixels, as `TorchCodec.decode` makes them; see `ExportSettings` for both."""

    def __init__(self, model: AutoencoderBase, settings: ExportSettings) -> None:
        super().__init__()
        self.model = model
        self.bytes = settings.pixels == "uint8"

    def forward(self, codes: Tensor) -> Tensor:
        """(N, *grid[, Q]) -> (N, *size, 3) uint8, or (N, 3, *size) float32 in [0, 1]."""
        vectors = self.model.quantize.decode(codes)
        pixels = self.model.decode_vectors(vectors).float().clamp(-1, 1)
        if not self.bytes:
            return (pixels + 1) * 0.5
        # The same as `vqtok.metrics.pixels.to_uint8`.
        return ((pixels + 1) * 127.5).round().to(torch.uint8).movedim(1, -1)


def halves(model: AutoencoderBase, settings: ExportSettings) -> tuple[Encode, Decode]:
    """A model's two halves in the dtypes of `settings`; copies, each without the other's weights.

    Slices and tiles are for bounded memory, and would fix the size of a graph.
    """
    encoder = _half(model, ("decoder", "post_quant_conv"), settings.dtype)
    settle(encoder.quantize, settings.search_block)
    decoder = _half(model, ("encoder", "quant_conv"), settings.decoder_dtype or settings.dtype)
    settle(decoder.quantize, None)
    return Encode(encoder, settings).eval(), Decode(decoder, settings).eval()


def _half(model: AutoencoderBase, others: tuple[str, ...], dtype: Dtype) -> AutoencoderBase:
    """A copy on the CPU, with nothing in the place of `others`."""
    left_out = {id(getattr(model, name)): nn.Identity() for name in others}
    made: AutoencoderBase = copy.deepcopy(model, left_out)
    # Torch's own `to`: diffusers' warns that the quantizer is to stay float32, which it does here.
    nn.Module.to(made, "cpu", torch.float16 if dtype == "fp16" else torch.float32)
    made.use_slicing = made.use_tiling = False
    in_stages(made)
    made.requires_grad_(False)
    return made

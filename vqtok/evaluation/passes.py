"""Pixels through a model or a codec and back, with everything that figures are taken of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from vqtok.autoencoders.pixels import as_signed
from vqtok.metrics.pixels import Pictures
from vqtok.precision import arithmetic, check_precision
from vqtok.quantizers import Quantizer, RowQuantizer, to_grid, to_rows
from vqtok.types import Codec

__all__ = ["Pass", "compared", "evaluating", "run"]


class Pass(NamedTuple):
    """What a batch becomes.

    reconstruction  floats (B, C, *size) in [-1, 1], or uint8 with channels last
    codes           (B, *grid[, Q]) of `codebook_size` codes, Q the `depth`
    e, q            (B, D, *grid): vectors as they are compared, and their codes; or None
    """

    reconstruction: Tensor | Pictures
    codes: Tensor
    codebook_size: int
    depth: int
    e: Tensor | None
    q: Tensor | None


def run(model: Any, pixels: Tensor, precision: str = "ieee32") -> Pass:
    """uint8 (B, C, *size) through an autoencoder, in the mode that it is in, or through a codec."""
    if isinstance(model, nn.Module):
        return _run_model(model, pixels, precision)
    return _run_codec(model, pixels.movedim(1, -1).contiguous().cpu().numpy())


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside it, a module is in eval mode."""
    if not isinstance(model, nn.Module):
        yield
        return
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def compared(quantizer: Quantizer, latents: Tensor) -> Tensor:
    """(B, D, *grid) -> the vectors that codes were chosen for, float32: directions, bounded, ..."""
    if isinstance(quantizer, RowQuantizer):
        return to_grid(quantizer.compared(to_rows(latents).float()), latents)
    parts = getattr(quantizer, "parts", None)  # of a product quantizer
    if parts is None:
        return latents.float()
    each = zip(parts, latents.chunk(len(parts), 1), strict=True)
    return torch.cat([compared(part, own) for part, own in each], 1)


@torch.no_grad()
def _run_model(model: Any, pixels: Tensor, precision: str) -> Pass:
    """Codes and pixels are those of the model's `encode_codes` and `decode_codes`."""
    signed = as_signed(pixels, model.config.in_channels, len(model.stride), model.grid_of)
    x = signed.to(model.device)
    quantizer = cast("Quantizer", model.quantize)
    with arithmetic(check_precision(precision), x.device):
        latents = model.encode(x.to(model.dtype), return_dict=False)[0]
        codes = quantizer.encode(latents)
        q = quantizer.decode(codes, latents.shape[2:])
        sample = model.decode(q, force_not_quantize=True, return_dict=False)[0]
    e = compared(quantizer, latents)
    return Pass(sample.float(), codes, quantizer.codebook_size, quantizer.depth, e, q)


def _run_codec(codec: Codec, pixels: Pictures) -> Pass:
    codes = codec.encode(pixels)
    ids = torch.from_numpy(codes.ids.astype("int64"))
    return Pass(codec.decode(codes), ids, codes.codebook_size, codes.depth, None, None)

"""Clips of any length in bounded memory: pixels in, codes out as they are complete, and back.

A stream takes chunks of any lengths and cuts them into runs of its own: a token's frames where the
model takes a clip piece by piece, and its window of frames where it does not. So the codes depend
on the clip alone, not on the chunks. All state of a stream is in its iterator: any number of them
may be under way with one model, in turns or in threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from vqtok.autoencoders.base import AutoencoderBase
from vqtok.autoencoders.building import execution_device
from vqtok.autoencoders.causal import AutoencoderCausal, Progress
from vqtok.autoencoders.latents import encode_latents
from vqtok.autoencoders.pixels import as_signed
from vqtok.errors import CodesError, ImageError, InputError
from vqtok.frames import run_lengths
from vqtok.precision import Precision, arithmetic

__all__ = ["decode_stream", "encode_stream", "latent_stream"]

TIME, TOKENS = 2, 1  # the axes of frames: in pixels, and in codes


def encode_stream(
    model: AutoencoderBase, chunks: Iterable[Tensor], precision: Precision = "ieee32"
) -> Iterator[Tensor]:
    """Chunks of clips (B, C, Ti, H, W) -> their codes (B, t, h, w[, Q]), as soon as there are any.

    Pixels are uint8, or floats in [-1, 1], and the chunks alike but for their lengths; together
    they have a number of frames that the model takes (see `plan_frames`), or the end is an
    `ImageError`. No frames have no codes, which is no error.

    A model that takes a clip piece by piece (an `AutoencoderCausal`) gives a token's codes at a
    time. They are those that `encode_codes` gives for the whole clip, bit for bit.

    Of any other model the codes are those of its windows, each by itself, and the last may be
    shorter. `encode_codes` gives these for one window at most: a longer clip goes through it as
    one, and has other codes.
    """
    return (codes for _, codes in latent_stream(model, chunks, precision))


def latent_stream(
    model: AutoencoderBase, chunks: Iterable[Tensor], precision: Precision = "ieee32"
) -> Iterator[tuple[Tensor, Tensor]]:
    """`encode_stream`, and the latents (B, D, t, h, w) that the codes are those of."""
    _check_clips(model)
    if isinstance(model, AutoencoderCausal):
        return _encode_causal(model, chunks, precision)
    windows = _runs(_pixels(chunks), run_lengths(_window(model)), TIME)
    return (encode_latents(model, pixels, precision) for pixels in windows)


def decode_stream(
    model: AutoencoderBase, chunks: Iterable[Tensor], precision: Precision = "ieee32"
) -> Iterator[Tensor]:
    """Chunks of codes (B, ti, h, w[, Q]) -> pixels (B, C, T, H, W), floats in [-1, 1].

    They come as `encode_stream` takes them in: a token's frames at a time, or a window's.
    """
    _check_clips(model)
    if isinstance(model, AutoencoderCausal):
        return _decode_causal(model, chunks, precision)
    tokens = run_lengths(_window(model) // model.stride[0])
    windows = _runs(_codes(model, chunks), tokens, TOKENS)
    return (model.decode_codes(codes, precision=precision) for codes in windows)


def _encode_causal(
    model: AutoencoderCausal, chunks: Iterable[Tensor], precision: Precision
) -> Iterator[tuple[Tensor, Tensor]]:
    progress, seen = Progress(), 0
    for run in _runs(_pixels(chunks), run_lengths(model.stride[0], model.lead), TIME):
        seen += run.shape[TIME]
        # The size is that of all that has come: it does not fit where the last token is not full.
        fits = partial(_fits, model, seen)
        pixels = as_signed(run, model.config.in_channels, len(model.stride), fits)
        yield _encode_next(model, pixels, progress, precision)


def _fits(model: AutoencoderBase, frames: int, size: tuple[int, ...]) -> None:
    model.grid_of((frames, *size[1:]))


@torch.no_grad()
def _encode_next(
    model: AutoencoderCausal, pixels: Tensor, progress: Progress, precision: Precision
) -> tuple[Tensor, Tensor]:
    pixels = pixels.to(execution_device(model))
    with arithmetic(precision, pixels.device):
        latents = model.encode_next(pixels.to(model.dtype), progress)
        return latents, model.ids_of(latents, precision)


def _decode_causal(
    model: AutoencoderCausal, chunks: Iterable[Tensor], precision: Precision
) -> Iterator[Tensor]:
    progress = Progress()
    for codes in _runs(_codes(model, chunks), run_lengths(1), TOKENS):
        yield _decode_next(model, codes, progress, precision)


@torch.no_grad()
def _decode_next(
    model: AutoencoderCausal, codes: Tensor, progress: Progress, precision: Precision
) -> Tensor:
    model._check_codes(codes)
    codes = codes.to(execution_device(model))
    with arithmetic(precision, codes.device):
        pixels: Tensor = model.decode_next(model.quantize.decode(codes), progress)
    return pixels.float().clamp(-1, 1)


# --- chunks ---------------------------------------------------------------------------------------


def _check_clips(model: AutoencoderBase) -> None:
    if not model.is_video:
        raise InputError(f"{type(model).__name__} takes pictures; a stream is one of clips")


def _window(model: AutoencoderBase) -> int:
    window = model.window
    if window is None:
        raise InputError(
            f"{type(model).__name__} takes no clip piece by piece and names no window of frames, "
            "so it has no codes before the last frame"
        )
    return window


def _pixels(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    return _alike(chunks, 5, TIME, "pixels (B, C, T, H, W)", ImageError)


def _codes(model: AutoencoderBase, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    depth = model.quantize.depth
    what = f"codes (B, t, h, w{f', {depth}' if depth else ''})"
    return _alike(chunks, 4 + bool(depth), TOKENS, what, CodesError)


def _alike(
    chunks: Iterable[Tensor], axes: int, time: int, what: str, error: type[InputError]
) -> Iterator[Tensor]:
    """The chunks, of which all but the length and the device is that of the first one."""
    first: tuple[object, ...] | None = None
    for chunk in chunks:
        if chunk.ndim != axes:
            raise error(f"the chunks of a stream are {what}; got {tuple(chunk.shape)}")
        found = (chunk.dtype, *chunk.shape[:time], *chunk.shape[time + 1 :])
        first = first or found
        if found != first:
            raise error(
                f"the chunks of a stream are {what}, alike but for their lengths; got "
                f"{_said(found, time)} after {_said(first, time)}"
            )
        yield chunk


def _said(found: tuple[object, ...], time: int) -> str:
    dtype, *sides = found
    sides.insert(time, "...")
    return f"{str(dtype)[6:]} ({', '.join(map(str, sides))})"


def _runs(chunks: Iterable[Tensor], sizes: Iterator[int], axis: int) -> Iterator[Tensor]:
    """The same in runs of the given sizes along an axis; the last one may be shorter."""
    size, held = next(sizes), None
    for chunk in chunks:
        rest = chunk if held is None else torch.cat([held, chunk], axis)
        while rest.shape[axis] >= size:
            yield rest.narrow(axis, 0, size)
            rest = rest.narrow(axis, size, rest.shape[axis] - size)
            size = next(sizes)
        held = rest.clone()  # the caller may write the next frames over these
    if held is not None and held.shape[axis]:
        yield held

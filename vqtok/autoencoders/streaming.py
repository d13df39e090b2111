"""Clips of any length in bounded memory: pixels in, codes out as they are complete, and back.

A stream takes chunks of any lengths and cuts them into runs of its own: a token's frames where the
model takes a clip piece by piece, and its window of frames where it does not. So the codes depend
on the clip alone, not on the chunks. All state of a stream is in its iterator: any number of them
may be under way with one model, in turns or in threads. `ClipEncoder` and `ClipDecoder` are the
same for those who are handed chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

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

__all__ = ["ClipDecoder", "ClipEncoder", "decode_stream", "encode_stream", "latent_stream"]

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
    return _pulled(ClipEncoder(model, precision), chunks)


def decode_stream(
    model: AutoencoderBase, chunks: Iterable[Tensor], precision: Precision = "ieee32"
) -> Iterator[Tensor]:
    """Chunks of codes (B, ti, h, w[, Q]) -> pixels (B, C, T, H, W), floats in [-1, 1].

    They come as `encode_stream` takes them in: a token's frames at a time, or a window's.
    """
    return _pulled(ClipDecoder(model, precision), chunks)


def _pulled(stream: ClipEncoder | ClipDecoder, chunks: Iterable[Tensor]) -> Iterator[Any]:
    for chunk in chunks:
        yield from stream.push(chunk)
    yield from stream.finish()


class ClipEncoder:
    """`latent_stream` for chunks that are handed in one by one.

    What `push` and `finish` return is to be taken to its end before the next call.
    """

    def __init__(self, model: AutoencoderBase, precision: Precision = "ieee32") -> None:
        _check_clips(model)
        self._encode: Callable[[Tensor], tuple[Tensor, Tensor]]
        if isinstance(model, AutoencoderCausal):
            sizes = run_lengths(model.stride[0], model.lead)
            self._encode = _Causal(model, precision).encode
        else:
            sizes = run_lengths(_window(model))
            self._encode = partial(encode_latents, model, precision=precision)
        self._cut = _Cut(sizes, TIME, 5, "pixels (B, C, T, H, W)", ImageError)

    def push(self, pixels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The next pixels (B, C, Ti, H, W) -> latents and codes of the runs that they complete."""
        return map(self._encode, self._cut.push(pixels))

    def finish(self) -> Iterator[tuple[Tensor, Tensor]]:
        """There is no more -> those of the last run, where it is shorter."""
        return map(self._encode, self._cut.finish())


class ClipDecoder:
    """`decode_stream` for chunks that are handed in one by one; see `ClipEncoder`."""

    def __init__(self, model: AutoencoderBase, precision: Precision = "ieee32") -> None:
        _check_clips(model)
        self._decode: Callable[[Tensor], Tensor]
        if isinstance(model, AutoencoderCausal):
            sizes = run_lengths(1)
            self._decode = _Causal(model, precision).decode
        else:
            sizes = run_lengths(_window(model) // model.stride[0])
            self._decode = partial(model.decode_codes, precision=precision)
        depth = model.quantize.depth
        what = f"codes (B, t, h, w{f', {depth}' if depth else ''})"
        self._cut = _Cut(sizes, TOKENS, 4 + bool(depth), what, CodesError)

    def push(self, codes: Tensor) -> Iterator[Tensor]:
        """The next codes (B, ti, h, w[, Q]) -> the pixels of the runs that they complete."""
        return map(self._decode, self._cut.push(codes))

    def finish(self) -> Iterator[Tensor]:
        """There is no more -> those of the last run, where it is shorter."""
        return map(self._decode, self._cut.finish())


class _Causal:
    """Runs through a model that takes a clip piece by piece, in one direction."""

    def __init__(self, model: AutoencoderCausal, precision: Precision) -> None:
        self._model, self._precision = model, precision
        self._progress = Progress()
        self._seen = 0  # frames

    def encode(self, run: Tensor) -> tuple[Tensor, Tensor]:
        self._seen += run.shape[TIME]
        # The size is that of all that has come: it does not fit where the last token is not full.
        fits = partial(_fits, self._model, self._seen)
        model = self._model
        pixels = as_signed(run, model.config.in_channels, len(model.stride), fits)
        return _encode_next(model, pixels, self._progress, self._precision)

    def decode(self, codes: Tensor) -> Tensor:
        return _decode_next(self._model, codes, self._progress, self._precision)


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


class _Cut:
    """Chunks that are alike -> the same in runs of the given sizes along an axis.

    axes, what  of a chunk, for `error`
    """

    def __init__(
        self, sizes: Iterator[int], axis: int, axes: int, what: str, error: type[InputError]
    ) -> None:
        self._sizes, self._size = sizes, next(sizes)
        self._axis, self._axes, self._what, self._error = axis, axes, what, error
        self._first: tuple[object, ...] | None = None
        self._held: Tensor | None = None

    def push(self, chunk: Tensor) -> Iterator[Tensor]:
        self._check(chunk)
        rest = chunk if self._held is None else torch.cat([self._held, chunk], self._axis)
        while rest.shape[self._axis] >= self._size:
            yield rest.narrow(self._axis, 0, self._size)
            rest = rest.narrow(self._axis, self._size, rest.shape[self._axis] - self._size)
            self._size = next(self._sizes)
        self._held = rest.clone()  # the caller may write the next frames over these

    def finish(self) -> Iterator[Tensor]:
        """The last run may be shorter."""
        if self._held is not None and self._held.shape[self._axis]:
            yield self._held

    def _check(self, chunk: Tensor) -> None:
        """All but the length and the device is that of the first one."""
        if chunk.ndim != self._axes:
            raise self._error(f"the chunks of a stream are {self._what}; got {tuple(chunk.shape)}")
        shape, axis = chunk.shape, self._axis
        found = (chunk.dtype, *shape[:axis], *shape[axis + 1 :])
        self._first = self._first or found
        if found != self._first:
            raise self._error(
                f"the chunks of a stream are {self._what}, alike but for their lengths; got "
                f"{_said(found, axis)} after {_said(self._first, axis)}"
            )


def _said(found: tuple[object, ...], time: int) -> str:
    dtype, *sides = found
    sides.insert(time, "...")
    return f"{str(dtype)[6:]} ({', '.join(map(str, sides))})"

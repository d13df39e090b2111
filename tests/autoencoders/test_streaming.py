from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from autoencoders.toys import TOYS, toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.autoencoders.streaming import (
    ClipDecoder,
    ClipEncoder,
    decode_stream,
    encode_stream,
    latent_stream,
)
from vqtok.errors import CodesError, ImageError, InputError

CAUSAL, WINDOWS = toy("cnn3d"), toy("timesformer")  # stride 2 in time; windows of 4


def other(quantizer: str, **args: Any) -> AutoencoderBase:
    torch.manual_seed(0)
    sizes = {**TOYS["cnn3d"], "num_vq_embeddings": 64}
    made = AUTOENCODERS["cnn3d"](**sizes, quantizer=quantizer, quantizer_args=args)
    return made.eval()


RESIDUAL = other("residual", num_quantizers=3, start="kaiming")
GUMBEL = other("gumbel")


def clip(frames: int, side: int = 8, seed: int = 1, batch: int = 2) -> Tensor:
    """(B, 3, T, H, W) uint8 noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, frames, side, side + 4)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def encoded(model: AutoencoderBase, *chunks: Tensor, **options: Any) -> Tensor:
    return torch.cat([*encode_stream(model, chunks, **options)], 1)


def decoded(model: AutoencoderBase, *chunks: Tensor, **options: Any) -> Tensor:
    return torch.cat([*decode_stream(model, chunks, **options)], 2)


def cut(x: Tensor, places: list[int], axis: int) -> tuple[Tensor, ...]:
    """Into chunks that end at these places, and some of which are empty where two are equal."""
    length = x.shape[axis]
    ends = [0, *sorted(min(place, length) for place in places), length]
    return x.split([b - a for a, b in itertools.pairwise(ends)], axis)


PLACES = st.lists(st.integers(0, 13), max_size=6)


# --- chunked is whole -----------------------------------------------------------------------------


@settings(max_examples=30)
@given(tokens=st.integers(1, 7), places=PLACES, seed=st.integers(0, 99))
def test_chunks_of_any_lengths_are_the_whole(tokens: int, places: list[int], seed: int) -> None:
    x = clip(2 * tokens - 1, seed=seed)
    codes = CAUSAL.encode_codes(x)
    assert torch.equal(encoded(CAUSAL, *cut(x, places, 2)), codes)
    pixels = CAUSAL.decode_codes(codes)
    assert torch.equal(decoded(CAUSAL, *cut(codes, places, 1)), pixels)


@settings(max_examples=20)
@given(frames=st.integers(1, 13), places=PLACES)
def test_windows_are_taken_one_by_one(frames: int, places: list[int]) -> None:
    x = clip(frames)
    expected = torch.cat([WINDOWS.encode_codes(part) for part in x.split(4, 2)], 1)
    assert torch.equal(encoded(WINDOWS, *cut(x, places, 2)), expected)
    pixels = torch.cat([WINDOWS.decode_codes(part) for part in expected.split(4, 1)], 2)
    assert torch.equal(decoded(WINDOWS, *cut(expected, places, 1)), pixels)


@pytest.mark.parametrize("frames", [1, 3, 4, 9, 13])
def test_windows_are_those_of_the_plan(frames: int) -> None:
    windows = WINDOWS.plan_frames(frames).windows
    codes = list(encode_stream(WINDOWS, clip(frames).split(3, 2)))
    assert [part.shape[1] for part in codes] == [window.tokens for window in windows]
    pixels = decode_stream(WINDOWS, codes)
    assert [part.shape[2] for part in pixels] == [window.frames for window in windows]


def test_a_longer_clip_given_whole_goes_through_a_model_of_windows_as_one() -> None:
    x = clip(8)
    assert not torch.equal(encoded(WINDOWS, x), WINDOWS.encode_codes(x))
    assert torch.equal(encoded(WINDOWS, x[:, :, :4]), WINDOWS.encode_codes(x[:, :, :4]))


@pytest.mark.parametrize("model", [RESIDUAL, GUMBEL], ids=["residual", "gumbel"])
def test_other_quantizers(model: AutoencoderBase) -> None:
    x = clip(9)
    codes = model.encode_codes(x)
    assert torch.equal(encoded(model, *x.split(2, 2)), codes)
    assert torch.equal(decoded(model, *codes.split(2, 1)), model.decode_codes(codes))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions(precision: Any) -> None:
    x = clip(9)
    codes = CAUSAL.encode_codes(x, precision=precision)
    assert torch.equal(encoded(CAUSAL, *x.split(2, 2), precision=precision), codes)
    pixels = CAUSAL.decode_codes(codes, precision=precision)
    assert torch.equal(decoded(CAUSAL, *codes.split(2, 1), precision=precision), pixels)


def test_another_range_of_pixels_and_dtype() -> None:
    ours = toy("cnn3d", pixel_mean=(0.4, 0.5, 0.6), pixel_std=(0.2, 0.3, 0.4)).bfloat16()
    x = (clip(5).float() - 127.5) / 127.5
    codes = ours.encode_codes(x)
    assert torch.equal(encoded(ours, *x.split(2, 2)), codes)
    assert torch.equal(decoded(ours, *codes.split(2, 1)), ours.decode_codes(codes))


def test_slices_and_tiles() -> None:
    ours = toy("cnn3d")
    ours.enable_slicing()
    ours.enable_tiling()
    x = clip(5, side=44)
    codes = ours.encode_codes(x)
    assert torch.equal(encoded(ours, *x.split(2, 2)), codes)
    assert torch.equal(decoded(ours, *codes.split(2, 1)), ours.decode_codes(codes))
    ours.disable_tiling()
    assert not torch.equal(ours.encode_codes(x), codes)  # there was more than one


# --- several at once ------------------------------------------------------------------------------


def test_streams_in_turns() -> None:
    one, other = clip(9, seed=1), clip(9, side=12, seed=2)
    streams = [encode_stream(CAUSAL, x.split(2, 2)) for x in (one, other)]
    found = [*zip(*streams, strict=True)]
    for parts, x in zip(zip(*found, strict=True), (one, other), strict=True):
        assert torch.equal(torch.cat(parts, 1), CAUSAL.encode_codes(x))
    codes = [CAUSAL.encode_codes(x) for x in (one, other)]
    back = [decode_stream(CAUSAL, ids.split(2, 1)) for ids in codes]
    for parts, ids in zip(zip(*zip(*back, strict=True), strict=True), codes, strict=True):
        assert torch.equal(torch.cat(parts, 2), CAUSAL.decode_codes(ids))


def test_streams_in_threads() -> None:
    clips = [clip(9, seed=seed) for seed in range(4)]

    def there_and_back(x: Tensor) -> tuple[Tensor, Tensor]:
        codes = encoded(CAUSAL, *x.split(1, 2))
        return codes, decoded(CAUSAL, *codes.split(1, 1))

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(there_and_back, clips)]
    for x, (codes, pixels) in zip(clips, found, strict=True):
        assert torch.equal(codes, CAUSAL.encode_codes(x))
        assert torch.equal(pixels, CAUSAL.decode_codes(codes))


def test_a_stream_that_is_left_leaves_nothing_behind() -> None:
    x = clip(9)
    codes = CAUSAL.encode_codes(x)
    stream = encode_stream(CAUSAL, x.split(2, 2))
    next(stream), next(stream)
    del stream
    assert torch.equal(CAUSAL.encode_codes(x), codes)
    assert torch.equal(encoded(CAUSAL, x), codes)


# --- as soon as it can, in bounded memory ---------------------------------------------------------


def test_codes_come_as_soon_as_a_token_is_full() -> None:
    taken = 0

    def frames() -> Iterator[Tensor]:
        nonlocal taken
        for frame in clip(7).split(1, 2):
            taken += 1
            yield frame

    seen = [(taken, codes.shape[1]) for codes in encode_stream(CAUSAL, frames())]
    assert seen == [(1, 1), (3, 1), (5, 1), (7, 1)]
    codes = CAUSAL.encode_codes(clip(7))
    assert [part.shape[2] for part in decode_stream(CAUSAL, [codes])] == [1, 2, 2, 2]


@pytest.mark.parametrize("model", [CAUSAL, WINDOWS], ids=["causal", "windows"])
def test_a_long_stream_takes_no_more_memory_than_a_short_one(model: AutoencoderBase) -> None:
    """Of the tensors that there are beside the clip when the last frames come back."""

    def storages() -> dict[int, int]:
        """Place -> bytes, of every tensor that there is."""
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) in (Tensor, nn.Parameter)]
        return {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}

    def held(frames: int) -> int:
        whole = clip(frames, batch=1)
        before = storages()
        codes = encode_stream(model, (frame.clone() for frame in whole.split(1, 2)))
        pixels = decode_stream(model, codes)
        while frames:
            frames -= next(pixels).shape[2]
        return sum(size for place, size in storages().items() if place not in before)

    short, long = (9, 81) if model.causal else (8, 80)
    held(short)  # whatever is made but once
    least = held(short)
    assert held(long) <= least


def test_of_a_large_chunk_few_frames_go_through_at_a_time() -> None:
    seen: list[int] = []
    hooks = [
        part.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2]))
        for part in (CAUSAL.encoder, CAUSAL.decoder)
    ]
    decoded(CAUSAL, encoded(CAUSAL, clip(31)))
    for hook in hooks:
        hook.remove()
    assert max(seen) == CAUSAL.stride[0]


@pytest.mark.parametrize("model", [CAUSAL, WINDOWS], ids=["causal", "windows"])
def test_chunks_may_lie_in_one_place(model: AutoencoderBase) -> None:
    """As where a reader writes each frame into the same memory."""
    x = clip(7)
    buffer = torch.empty_like(x[:, :, :1])
    frames = (buffer.copy_(frame) for frame in x.split(1, 2))
    found = torch.cat([*encode_stream(model, frames)], 1)
    assert torch.equal(found, encoded(model, x))


def test_nothing_of_nothing() -> None:
    for model in (CAUSAL, WINDOWS):
        assert [*encode_stream(model, [])] == [*decode_stream(model, [])] == []
        assert [*encode_stream(model, [clip(0)])] == []


# --- what cannot be -------------------------------------------------------------------------------


def message(kind: type[Exception], call: Any, *args: Any) -> str:
    with pytest.raises(kind) as error:
        call(*args)
    return str(error.value)


def test_pictures_do_not_stream() -> None:
    for call in (encode_stream, decode_stream):
        assert message(InputError, call, toy("cnn"), []) == (
            "AutoencoderVQ takes pictures; a stream is one of clips"
        )


def test_a_stream_that_ends_within_a_token() -> None:
    """After the codes of those before it."""
    found: list[Tensor] = []
    expected = (
        "the sides of a clip are 1 + a multiple of 2 frames, and multiples of 4 x 4; got 4 x 8 x 12"
    )
    error = message(ImageError, lambda: found.extend(encode_stream(CAUSAL, clip(4).split(3, 2))))
    assert error.startswith(expected)
    assert torch.equal(torch.cat(found, 1), CAUSAL.encode_codes(clip(4)[:, :, :3]))


@pytest.mark.parametrize("model", [CAUSAL, WINDOWS], ids=["causal", "windows"])
def test_chunks_that_cannot_be(model: AutoencoderBase) -> None:
    x = clip(5)
    shape = "the chunks of a stream are pixels (B, C, T, H, W)"
    alike = f"{shape}, alike but for their lengths; got"
    assert message(ImageError, encoded, model, x[0]) == f"{shape}; got (3, 5, 8, 12)"
    assert message(ImageError, encoded, model, x, x[:1]) == (
        f"{alike} uint8 (1, 3, ..., 8, 12) after uint8 (2, 3, ..., 8, 12)"
    )
    assert message(ImageError, encoded, model, x, x / 255) == (
        f"{alike} float32 (2, 3, ..., 8, 12) after uint8 (2, 3, ..., 8, 12)"
    )
    assert message(ImageError, encoded, model, x[:, :2]) == (
        f"pixels have the shape (B, 3, T, H, W); got {(2, 2, 1 if model.causal else 4, 8, 12)}"
    )
    codes = encoded(model, x)
    assert message(CodesError, decoded, model, codes, codes[..., 1:]) == (
        "the chunks of a stream are codes (B, t, h, w), alike but for their lengths; got int64 "
        f"{two(codes[..., 1:])} after int64 {two(codes)}"
    )
    assert message(CodesError, decoded, model, codes[0]) == (
        f"the chunks of a stream are codes (B, t, h, w); got {tuple(codes.shape[1:])}"
    )


def two(codes: Tensor) -> str:
    b, _, h, w = codes.shape
    return f"({b}, ..., {h}, {w})"


def test_codes_without_the_axis_of_several() -> None:
    codes = RESIDUAL.encode_codes(clip(3))
    assert message(CodesError, decoded, RESIDUAL, codes[..., 0]) == (
        "the chunks of a stream are codes (B, t, h, w, 3); got (2, 2, 2, 3)"
    )


def test_damaged_weights() -> None:
    ours = toy("cnn3d")
    ours.encoder.conv_in.weight.data.fill_(torch.nan)
    assert message(InputError, encoded, ours, clip(1)) == (
        "the encoder's output is not finite with float32 weights and precision='ieee32'; half "
        "precision may overflow, or weights are damaged"
    )


def test_a_model_without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(WINDOWS), "window", None)
    assert message(InputError, encode_stream, WINDOWS, []) == (
        "AutoencoderVQTimesformer takes no clip piece by piece and names no window of frames, so "
        "it has no codes before the last frame"
    )


# --- handed in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [CAUSAL, WINDOWS], ids=["causal", "windows"])
def test_chunks_that_are_handed_in_give_what_pulling_them_gives(model: AutoencoderBase) -> None:
    x = clip(13 if model is CAUSAL else 12)
    encoder, decoder = ClipEncoder(model), ClipDecoder(model)
    found = [part for chunk in x.split(5, 2) for part in encoder.push(chunk)] + [*encoder.finish()]
    whole = list(latent_stream(model, x.split(5, 2)))
    assert len(found) == len(whole)
    for ours, theirs in zip(found, whole, strict=True):
        assert all(map(torch.equal, ours, theirs))
    codes = torch.cat([ids for _, ids in found], 1)
    pixels = [part for ids in codes.split(1, 1) for part in decoder.push(ids)]
    pixels += decoder.finish()
    assert torch.equal(torch.cat(pixels, 2), decoded(model, codes))


def test_what_is_handed_in_may_be_written_over() -> None:
    x = clip(13)
    wanted, encoder, found = encoded(CAUSAL, x), ClipEncoder(CAUSAL), []
    room = torch.empty_like(x[:, :, :4])
    for chunk in x.split(4, 2):
        part = room[:, :, : chunk.shape[2]].copy_(chunk)
        found += [ids for _, ids in encoder.push(part)]
    found += [ids for _, ids in encoder.finish()]
    assert torch.equal(torch.cat(found, 1), wanted)

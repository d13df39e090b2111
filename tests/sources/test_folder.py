"""Pictures in folders: keys, labels, columns from metadata files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from source_files import picture, png, write

from vqtok.errors import LoadError
from vqtok.sources import open_source

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
        ("metadata.jsonl", "[1]", "row 1 of 'ROOT/metadata.jsonl' has no column 'file_name'"),
        (
            "metadata.jsonl",
            "{",
            "'ROOT/metadata.jsonl' cannot be read: Expecting property name enclosed in double "
            "quotes: line 1 column 2 (char 1)",
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

"""Labels that are text: how many, and folders that may be no classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_files import MAKERS, picture, png, write, write_parquet

from vqtok.sources import open_source
from vqtok.sources.labels import classes_of, doubts, told

PNG = png(picture(0))


def labelled(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, PNG)
    return root


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_labels_are_those_of_the_samples(kind: str, tmp_path: Path) -> None:
    source = open_source(MAKERS[kind](tmp_path), kind)
    if hasattr(source, "labels"):
        samples = [source[index] for index in range(len(source))]
        assert list(source.labels()) == [sample.columns.get("label") for sample in samples]


def test_classes_are_counted(tmp_path: Path) -> None:
    source = open_source(labelled(tmp_path, "dog/1.png", "cat/2.png", "cat/3.png", "4.png"))
    assert classes_of(source) == {"cat": 2, "dog": 1}
    assert told(classes_of(source)) == "2 classes: 'cat' (2), 'dog' (1)"


def test_the_first_classes_are_named(tmp_path: Path) -> None:
    source = open_source(labelled(tmp_path, *(f"{n}/0.png" for n in range(12))))
    assert told(classes_of(source)) == (
        "12 classes: '0' (1), '1' (1), '10' (1), '11' (1), '2' (1), ..."
    )


def test_text_in_a_table(tmp_path: Path) -> None:
    table = {"image": [PNG] * 4, "label": ["a", "b", None, "a"]}
    write_parquet(tmp_path / "a.parquet", table)
    write_parquet(tmp_path / "b.parquet", {"image": [PNG]})
    assert classes_of(open_source(tmp_path)) == {"a": 2, "b": 1}


def test_one_layout_is_no_doubt(tmp_path: Path) -> None:
    assert doubts(open_source(labelled(tmp_path, "in/dog/1.png", "in/cat/2.png"))) == []
    assert doubts(open_source(labelled(tmp_path / "flat", "1.png", "2.png"))) == []
    assert doubts(open_source(MAKERS["arrays"](tmp_path / "arrays"))) == []


def test_a_folder_that_many_have(tmp_path: Path) -> None:
    root = labelled(tmp_path, "n01/images/1.png", "n02/images/2.png", "n01/boxes/1.png")
    assert told(classes_of(open_source(root))) == "2 classes: 'boxes' (1), 'images' (2)"
    assert doubts(open_source(root)) == [
        "the label 'images' is the name of 2 folders, such as 'n01/images' and 'n02/images', whose "
        "samples become one class"
    ]
    labelled(tmp_path, "n02/boxes/1.png")
    assert doubts(open_source(root))[0].endswith("; so it is with 2 labels in all")


def test_several_depths(tmp_path: Path) -> None:
    root = labelled(tmp_path, "cat/1.png", "x/dog/2.png")
    assert doubts(open_source(root)) == [
        "samples lie at several depths, such as 'cat/1.png' and 'x/dog/2.png'; the label of each "
        "is the name of the folder that it lies in itself"
    ]


def test_what_a_table_says_is_no_doubt(tmp_path: Path) -> None:
    root = labelled(tmp_path, "cat/1.png", "x/y/cat/2.png")
    write(root / "metadata.csv", "file_name,label\nx/y/cat/2.png,lion\n")
    assert doubts(open_source(root)) == []

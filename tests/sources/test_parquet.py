"""Tables of pictures: which column, which keys, row groups and arrow files."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import hugging_face, picture, pixels_of, png, write, write_parquet

from vqtok.errors import LoadError
from vqtok.sources import open_source
from vqtok.sources import parquet as module

pytest.importorskip("pyarrow", reason="parquet files need pyarrow")

FILES = [png(picture(number)) for number in range(5)]


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    columns = {"label": list(range(5)), "png": FILES, "box": [[1, 2]] * 4 + [None]}
    source = open_source(write_parquet(tmp_path / "train-00000-of-00001.parquet", columns, group=2))
    assert source.keys == [f"train-00000-of-00001/{row:08d}" for row in range(5)]
    for row in (4, 0, 3, 1, 2, 4):
        assert source[row].data == FILES[row]
        assert source[row].columns == {"label": row, "box": None if row == 4 else [1, 2]}


def test_few_row_groups_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 1)
    source = open_source(write_parquet(tmp_path / "a.parquet", {"image": FILES}, group=2))
    for row in range(5):
        assert source[row].data == FILES[row]
        assert len(source._held._held) == 1  # type: ignore[attr-defined]


def test_threads_read_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [png(picture(number)) for number in range(60)]
    path = write_parquet(tmp_path / "a.parquet", {"image": rows}, group=10)
    opened, read = module._parquet, list[int]()

    def counted(path: Path) -> module._Table:
        table = opened(path)
        return table._replace(read=lambda number: read.append(number) or table.read(number))

    monkeypatch.setattr(module, "_parquet", counted)
    source = open_source(path)
    with ThreadPoolExecutor(8) as pool:
        assert [sample.data for sample in pool.map(source.__getitem__, range(60))] == rows
    assert sorted(read) == list(range(6))


def test_hugging_faces_pictures(tmp_path: Path) -> None:
    write(tmp_path / "other" / "1.png", FILES[1])
    images = [{"bytes": FILES[0], "path": "0.png"}, {"bytes": None, "path": "other/1.png"}]
    columns = {"mask": [b"x", b"y"], "image": images, "key": ["zero", "one"]}
    source = open_source(write_parquet(tmp_path / "a.parquet", columns), kind="parquet")
    assert source.keys == ["zero", "one"]
    assert [source[n].columns for n in range(2)] == [
        {"mask": b"x", "key": "zero"},
        {"mask": b"y", "key": "one"},
    ]
    assert [source[n].data for n in range(2)] == [FILES[0], tmp_path / "other/1.png"]
    assert np.array_equal(pixels_of(source[1]), picture(1))


def test_the_column_that_says_it_holds_pictures(tmp_path: Path) -> None:
    both = [{"bytes": file, "path": None} for file in FILES]
    said = hugging_face("photo")
    path = write_parquet(tmp_path / "a.parquet", {"depth": both, "photo": both}, **said)
    assert open_source(path)[0].columns == {"depth": both[0]}


def write_arrow(path: Path, columns: Mapping[str, Any], rows: int = 2) -> None:
    """As `Dataset.save_to_disk` does."""
    import pyarrow

    table = pyarrow.table(dict(columns))
    path.parent.mkdir(exist_ok=True)
    with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=rows)


def test_what_datasets_saved_to_disk(tmp_path: Path) -> None:
    write(tmp_path / "set" / "state.json", "{}")
    images = [{"bytes": file, "path": None} for file in FILES]
    columns = {"image": images, "label": list(range(5))}
    write_arrow(tmp_path / "set" / "data-00000-of-00001.arrow", columns)
    write_arrow(tmp_path / "set" / "cache-0123.arrow", columns)
    source = open_source(tmp_path / "set")
    assert source.keys == [f"data-00000-of-00001/{row:08d}" for row in range(5)]
    for row in (4, 0, 3, 1, 2):
        assert source[row].data == FILES[row]
        assert source[row].columns == {"label": row}


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as error:
        open_source(path)
    return str(error.value).replace(str(path.parent), "ROOT")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": FILES, "b": FILES}, "2 columns of pictures among a, b"),
        ({"label": [1], "text": ["x"]}, "no column of pictures among label, text"),
    ],
)
def test_one_column_must_hold_pictures(
    tmp_path: Path, columns: dict[str, Any], expected: str
) -> None:
    assert refused(write_parquet(tmp_path / "a.parquet", columns)) == (
        f"'ROOT/a.parquet' has {expected}; one is needed, of file bytes or of {{bytes, path}}"
    )


def test_files_that_differ(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "a.parquet", {"image": FILES})
    write_parquet(tmp_path / "set" / "b.parquet", {"photo": FILES})
    assert refused(tmp_path / "set") == (
        "'ROOT/set/b.parquet' has its pictures in the column 'photo', but 'ROOT/set/a.parquet' in "
        "'image'"
    )


def test_keys_must_be_text_and_differ(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": FILES, "key": list(range(5))})
    assert refused(path) == "row 0 of 'ROOT/a.parquet' has the key 0; keys are text"
    path = write_parquet(tmp_path / "b.parquet", {"image": FILES, "__key__": [*"abcab"]})
    assert refused(path) == (
        "two samples have the key 'a': in 'ROOT/b.parquet' and in 'ROOT/b.parquet'; rename one of "
        "them"
    )


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_something_else_by_that_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b"hello, this is no table")
    assert refused(path).startswith(f"'ROOT/{name}' is not a table that can be read: ")


def test_rows_without_a_picture_are_bad_samples(tmp_path: Path) -> None:
    images = [{"bytes": FILES[0], "path": None}, {"bytes": None, "path": None}, None]
    path = write_parquet(tmp_path / "a.parquet", {"image": images})
    source = open_source(path)
    assert source[0].data == FILES[0]
    for row in (1, 2):
        with pytest.raises(LoadError) as error:
            source[row]
        assert str(error.value) == f"the sample 'a/0000000{row}' in '{path}' has no picture"


def test_a_damaged_group_is_a_bad_sample(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": FILES}, group=1)
    whole = bytearray(path.read_bytes())
    whole[4:34] = b"\xff" * 30  # the first page's header
    source = open_source(write(path, bytes(whole)))
    assert source[4].data == FILES[4]
    with pytest.raises(LoadError) as error:
        source[0]
    assert str(error.value).startswith(f"'{path}' cannot be read: ")

"""Arrays of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_files import picture, write

from vqtok.errors import LoadError
from vqtok.sources import open_source


def test_rows_have_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.stack([picture(0), picture(1)]))
    np.save(tmp_path / "a.npy", picture(2)[None])
    np.save(tmp_path / "empty.npy", picture(2)[:0][None][:0])
    source = open_source(tmp_path)
    assert source.keys == ["a/00000000", "b/00000000", "b/00000001"]
    sample = source[2]
    assert np.array_equal(sample.data, picture(1))
    sample.data[:] = 0  # a copy: the file stays as it is
    assert np.array_equal(source[2].data, picture(1))


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 3, 3, 1), np.uint8), "uint8 of shape (2, 3, 3, 1)"),
        (np.zeros((2, 3, 3), np.uint8), "uint8 of shape (2, 3, 3)"),
        (np.zeros((2, 3, 3, 3), np.float32), "float32 of shape (2, 3, 3, 3)"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, found: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(LoadError) as error:
        open_source(tmp_path)
    assert str(error.value) == (
        f"'{tmp_path / 'a.npy'}' holds {found}; pictures are uint8 (N, H, W, 3)"
    )


def test_something_else_named_npy(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", b"hello, this is no array")
    with pytest.raises(LoadError) as error:
        open_source(path)
    assert str(error.value).startswith(f"'{path}' is not an array that can be mapped: ")


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    for root in ("x", "y"):
        (tmp_path / root).mkdir()
        np.save(tmp_path / root / "a.npy", picture(0)[None])
    with pytest.raises(LoadError) as error:
        open_source([tmp_path / "x", tmp_path / "y"])
    assert str(error.value).replace(str(tmp_path), "ROOT") == (
        "two samples have the key 'a': 'ROOT/x/a.npy' and 'ROOT/y/a.npy'; rename one of them"
    )

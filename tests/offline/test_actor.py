"""Columns of pictures get columns of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from source_files import png

from vqtok import VisualTokenizer
from vqtok.errors import ConfigError, InputError
from vqtok.offline.actor import TokenizerActor
from vqtok.preprocess import Preprocess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


def column(values: list[Any]) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def grids(rows: dict[str, Any]) -> list[np.ndarray]:
    return [
        np.frombuffer(codes, "<u2").reshape(grid)
        for codes, grid in zip(rows["codes"], rows["grid"], strict=True)
    ]


def expected(picture: np.ndarray) -> np.ndarray:
    return tiny.tokenizer().encode_codes([picture])[0].numpy()


def test_bytes_and_images_get_the_codes_of_the_tokenizer(folder: str) -> None:
    actor = TokenizerActor(folder, device="cpu", batch=2)
    pictures = [tiny.picture(20, 24, seed) for seed in range(5)]
    files = [png(picture) for picture in pictures]
    hf = [{"bytes": file, "path": None} for file in files]
    for name, values in (("bytes", files), ("image", pictures), ("image", hf)):
        rows = actor({name: column(values), "label": np.arange(5)})
        assert list(rows) == [name, "label", "codes", "grid", "error"]
        assert rows["grid"].dtype == np.int32
        assert list(rows["error"]) == [""] * 5
        for got, picture in zip(grids(rows), pictures, strict=True):
            np.testing.assert_array_equal(got, expected(picture))
    stacked = actor({"image": np.stack(pictures)})
    assert list(stacked["codes"]) == list(rows["codes"])


def test_codes_do_not_depend_on_how_rows_are_handed_in(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = TokenizerActor(folder, device="cpu", batch=4)
    shapes: list[tuple[int, ...]] = []
    encode = actor._tok.codec.encode
    monkeypatch.setattr(
        actor._tok.codec, "encode", lambda p: (shapes.append(p.shape), encode(p))[1]
    )
    images = column([tiny.picture(seed=seed) for seed in range(6)])
    whole = actor({"image": images})
    parts = [actor({"image": images[at : at + 1]}) for at in range(6)]
    assert list(whole["codes"]) == [part["codes"][0] for part in parts]
    assert set(shapes) == {(4, 16, 16, 3)}


def test_a_row_that_cannot_be_read_says_why(folder: str) -> None:
    rows = TokenizerActor(folder, device="cpu")(
        {"bytes": column([png(tiny.picture()), b"no picture", png(tiny.picture(seed=1))])}
    )
    assert [len(codes) for codes in rows["codes"]] == [32, 0, 32]
    assert rows["grid"].tolist() == [[4, 4], [0, 0], [4, 4]]
    assert list(rows["error"]) == [
        "",
        "the picture is not a picture in a format that Pillow reads here",
        "",
    ]


def test_no_row_and_only_bad_ones(folder: str) -> None:
    actor = TokenizerActor(folder, device="cpu")
    assert actor({"bytes": column([])})["grid"].shape == (0, 2)
    assert actor({"bytes": column([b""])})["grid"].tolist() == [[0, 0]]


def test_sizes_that_are_kept(tmp_path: Path) -> None:
    VisualTokenizer.from_model(tiny.model(), Preprocess(policy="native", stride=4)).save_pretrained(
        tmp_path
    )
    pictures = [tiny.picture(8, 12), tiny.picture(20, 16), tiny.picture(8, 12, seed=1)]
    rows = TokenizerActor(str(tmp_path), device="cpu")({"image": column(pictures)})
    assert rows["grid"].tolist() == [[2, 3], [5, 4], [2, 3]]


@pytest.mark.parametrize("name", ["batch", "decoders"])
def test_settings_that_cannot_be(folder: str, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        TokenizerActor(folder, **{name: 0})
    assert str(error.value) == f"{name} is a whole number, at least 1; got 0"


def test_rows_without_pictures(folder: str) -> None:
    with pytest.raises(InputError) as error:
        TokenizerActor(folder, device="cpu")({"text": column([]), "path": column([])})
    assert str(error.value) == "rows have a column 'bytes' or 'image'; got text, path"


def test_a_backend_that_there_is_not(folder: str) -> None:
    with pytest.raises(ConfigError) as error:
        TokenizerActor(folder, backend="onxx")
    assert str(error.value) == (
        "there is no backend called 'onxx'. Did you mean 'onnx'? Known: auto, onnx, torch."
    )

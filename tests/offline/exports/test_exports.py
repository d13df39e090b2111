"""What holds for every export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from token_lists import DATASET, TokenList, clips, token_list
from token_rows import PRINTS

from vqtok.errors import ConfigError, InputError, LoadError, UnknownNameError
from vqtok.offline.exports import EXPORTS

pytest.importorskip("pyarrow")

CODES = ("1xgpt", "litdata", "llamagen", "mds", "megatron", "rar", "webdataset")
LATENTS = ("lightningdit", "npy", "webdataset")
NUMBERS = {"ant": 0, "bee": 1, "cat": 2}
OPTIONS: dict[str, dict[str, Any]] = {"1xgpt": {"hz": 15.0}}
EVERY = [*((name, "codes") for name in CODES), *((name, "latents") for name in LATENTS)]


def made_for(name: str, what: str) -> TokenList:
    """A set that this export takes."""
    if name == "1xgpt":
        return clips()
    views = ("center", "hflip") if name in ("llamagen", "lightningdit") else ("center",)
    return token_list(views=views, what=what, labels=("cat", "ant", "bee"))


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_these_exports_are_there() -> None:
    assert sorted(EXPORTS) == sorted({*CODES, *LATENTS})
    assert {name: EXPORTS[name].what for name in EXPORTS} == {
        **dict.fromkeys(CODES, "codes"),
        **dict.fromkeys(LATENTS, "latents"),
        "webdataset": "both",
    }
    with pytest.raises(UnknownNameError, match="there is no export called 'var'"):
        EXPORTS["var"]


@pytest.mark.parametrize(("name", "what"), EVERY)
def test_equal_rows_are_equal_bytes(name: str, what: str, tmp_path: Path) -> None:
    counted: list[int] = []
    for folder in ("flip", "flip_again"):
        tokens = made_for(name, what)
        EXPORTS[name](tokens, tmp_path / folder, counted.append, **OPTIONS.get(name, {}))
    assert files(tmp_path / "flip") == files(tmp_path / "flip_again")
    assert sum(counted) == 2 * len(tokens)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flip", "flip_again"]


@pytest.mark.parametrize(("name", "what"), EVERY)
def test_its_origin_stands_beside_it(name: str, what: str, tmp_path: Path) -> None:
    tokens = made_for(name, what)
    EXPORTS[name](tokens, tmp_path / "flip", **OPTIONS.get(name, {}))
    origin = json.loads((tmp_path / "flip" / "origin.json").read_bytes())
    assert origin["schema"] == "vqtok-export/1"
    assert origin["export"] == name
    assert origin["dataset"] == DATASET
    assert origin["tokenizer"]["fingerprint"] == PRINTS
    assert origin["rows"] == len(tokens)
    assert origin["options"] == OPTIONS.get(name, {})
    assert origin.get("scaling_factor") == (2.0 if what == "latents" else None)
    assert str(tmp_path) not in json.dumps(origin)


@pytest.mark.parametrize(("name", "what"), [each for each in EVERY if each[0] != "1xgpt"])
def test_names_of_classes_become_numbers(name: str, what: str, tmp_path: Path) -> None:
    if "classes" not in EXPORTS[name].options:
        pytest.skip("it has no classes")
    EXPORTS[name](made_for(name, what), tmp_path / "flip")
    assert json.loads((tmp_path / "flip" / "classes.json").read_bytes()) == NUMBERS


def test_an_output_that_is_there_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    EXPORTS["rar"](token_list(), out)
    before = files(out)
    with pytest.raises(LoadError) as error:
        EXPORTS["rar"](token_list(("x",)), out)
    assert str(error.value) == f"{out} is there already; --overwrite replaces it"
    assert files(out) == before


def test_only_exports_are_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    EXPORTS["rar"](token_list(), out)
    EXPORTS["megatron"](token_list(), out, overwrite=True)
    assert sorted(files(out)) == ["origin.json", "rows.jsonl", "tokens.bin", "tokens.idx"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (out / "origin.json").unlink()
    with pytest.raises(LoadError) as error:
        EXPORTS["megatron"](token_list(), out, overwrite=True)
    assert str(error.value) == f"{out} is no export, so it is not replaced; name another"
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LoadError) as error:
        EXPORTS["megatron"](token_list(), file, overwrite=True)
    assert str(error.value) == f"{file} is a file; an export is a folder"
    with pytest.raises(LoadError) as error:
        EXPORTS["megatron"](token_list(), file / "deep" / "out")
    place = file / "deep" / "out"
    assert str(error.value) == f"{file} is a file, so there can be no {place}"


@pytest.mark.parametrize("there", [False, True])
def test_after_an_error_it_is_as_it_was(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        EXPORTS["rar"](token_list(), out)
    before = files(out)

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EXPORTS["megatron"](token_list(), out, stop, overwrite=True)
    assert files(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * there


def test_an_empty_folder_is_no_output_yet(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    EXPORTS["rar"](token_list(), out)
    assert "pretokenized.jsonl" in files(out)


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        EXPORTS["megatron"](token_list(), tmp_path / "out", endid=3)
    assert str(error.value) == (
        "the megatron export has no option 'endid'. Did you mean 'end_id'? Known: dtype, end_id."
    )


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        (
            "rar",
            "latents",
            "the rar export is of codes, and this data set holds latents; tokenize with "
            "--what codes",
        ),
        (
            "npy",
            "codes",
            "the npy export is of latents, and this data set holds codes; tokenize with "
            "--what latents",
        ),
    ],
)
def test_rows_have_to_hold_it(name: str, what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        EXPORTS[name](token_list(what=what), tmp_path / "out")
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["rar", "npy"])
def test_rows_may_hold_more(name: str, tmp_path: Path) -> None:
    EXPORTS[name](token_list(what="both"), tmp_path / "out")


def test_no_rows_are_no_export(tmp_path: Path) -> None:
    tokens = token_list()
    tokens.rows = []
    with pytest.raises(InputError) as error:
        EXPORTS["rar"](tokens, tmp_path / "out")
    assert str(error.value) == "this data set has no rows, so there is nothing to export"

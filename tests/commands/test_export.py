from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commandline import pictures, tokenizer, vqtok
from onnx_exports import copied, exported

from vqtok.export import job


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and graphs that are not traced anew."""
    monkeypatch.chdir(tmp_path)
    exported()  # before it, or it would be of copies of itself
    monkeypatch.setattr(job, "write_graphs", copied)
    return tmp_path


def mistake(*arguments: str | Path) -> str:
    done = vqtok("export", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("vqtok: ") and done.err.count("\n") == 1
    return done.err.removeprefix("vqtok: ").rstrip()


def test_a_folder_of_graphs(here: Path) -> None:
    photos = pictures(here / "photos", "a.png", "b.png")
    done = vqtok("export", tokenizer(), "out", "--check", photos, "--check-count", "1")
    assert (done.status, done.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert [name for name, _ in lines] == [
        "decoder.onnx",
        "encoder.onnx",
        "compared",
        "ids",
        "pixels",
        "written",
    ]
    assert lines[2][1].startswith("1 picture of 2 of 'photos', 12 with those turned over; ")
    assert lines[-1][1] == "out"
    assert json.loads((here / "out" / "parity.json").read_text())["faults"] == []
    assert vqtok("export", tokenizer(), "out", "--overwrite").status == 0
    assert sorted(os.listdir(here)) == ["out", "photos"]


def test_other_preprocessing(here: Path) -> None:
    """Which graphs name, so that these are another tokenizer's."""
    said = mistake(tokenizer(), "out", "--size", "32")
    assert "has the fingerprint" in said
    assert os.listdir(here) == []


def test_what_people_see_of_it(here: Path) -> None:
    done = vqtok("export", tokenizer(), "out", terminals=("stderr",))
    assert done.status == 0
    assert "vqtok: writing encoder.onnx\n" in done.err
    assert "vqtok: writing decoder.onnx\n" in done.err
    assert "comparing" in done.err
    assert "24/24" in done.err


def test_mistakes(here: Path) -> None:
    assert mistake(tokenizer(), "out", "--dtype", "fp8") == "dtype='fp8' is not fp32 or fp16"
    assert mistake(tokenizer(), "out", "--dtype", "int8").startswith("an int8 encoder gives other")
    assert (
        mistake(tokenizer(), "out", "--check", "nowhere") == "there is no file or folder 'nowhere'"
    )
    (here / "file").write_text("")
    refused = "and no folder that `vqtok export` wrote, so it is not replaced; name another"
    assert mistake("nobody", "file") == f"file is there already, {refused}"
    assert sorted(os.listdir(here)) == ["file"]


def test_help_teaches() -> None:
    done = vqtok("export", "--help")
    assert done.status == 0
    for words in ("--check", "--decoder-dtype", "--accept-other-ids", "99.9", "parity.json"):
        assert words in done.out

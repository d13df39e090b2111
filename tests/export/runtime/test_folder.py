"""Folders whose files are whole and belong together load, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnx_folders as made
import pytest
from onnx_folders import NATIVE, PICTURES, SETTINGS, WINDOWED

from vqtok.errors import ConfigError, LoadError, MismatchError
from vqtok.export.runtime.folder import opened
from vqtok.export.runtime.headers import properties
from vqtok.preprocess import Preprocess
from vqtok.types import Fingerprint


def refused(place: Path, kind: type[Exception]) -> str:
    with pytest.raises(kind) as error:
        opened(place)
    return str(error.value)


def change(place: Path, **changes: Any) -> None:
    """Other values in config.json."""
    file = place / "config.json"
    stored = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps(stored), encoding="utf-8")


def test_what_a_folder_says(tmp_path: Path) -> None:
    found = opened(made.folder(tmp_path))
    assert found.traits == PICTURES
    assert found.settings == SETTINGS
    assert found.fingerprint == made.print_of()
    assert found.vocab == made.vocab_of(PICTURES)
    assert found.roles == ("encoder", "decoder")
    assert found.file("encoder") == tmp_path / "encoder.onnx"
    assert (found.precision, found.pixels, found.codes) == ("ieee32", "uint8", "int64")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert refused(tmp_path, ConfigError) == (
        f"{tmp_path} holds no ONNX graphs, which `vqtok export` writes of a tokenizer"
    )


def test_files_that_are_damaged(tmp_path: Path) -> None:
    made.folder(tmp_path)
    file = tmp_path / "decoder.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole + b"\0")
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["files"]
    assert refused(tmp_path, MismatchError).endswith(
        f", and config.json says {stored['decoder.onnx']['sha256']}"
    )
    file.unlink()
    assert refused(tmp_path, LoadError) == (
        f"{tmp_path} lacks decoder.onnx, which its config.json names"
    )


OTHER = made.print_of(codebook="b" * 64)
SIZED = Preprocess(policy="center", size=32, stride=4)


@pytest.mark.parametrize(
    ("name", "value", "said", "own"),
    [
        ("schema", "vqtok-onnx/9", "vqtok-onnx/9", "vqtok-onnx/1"),
        ("role", "encoder", "encoder", "decoder"),
        ("role", None, "(none)", "decoder"),
        ("fingerprint", json.dumps(OTHER.to_dict()), str(OTHER), str(made.print_of())),
        ("codebook", "b" * 64, "b" * 64, "c" * 64),
        ("preprocess", json.dumps(SIZED.to_config()), str(SIZED), str(SETTINGS)),
        ("precision", "fp16", "fp16", "ieee32"),
        ("traits", json.dumps(WINDOWED.to_dict()), str(WINDOWED), str(PICTURES)),
    ],
)
def test_graphs_of_another_tokenizer(
    tmp_path: Path, name: str, value: str | None, said: str, own: str
) -> None:
    made.folder(tmp_path, metadata={"decoder": {f"vqtok.{name}": value}})
    assert refused(tmp_path, MismatchError) == (
        f"{tmp_path / 'decoder.onnx'} has the {name} {said}, and the folder's is {own}; they are "
        "not of one export"
    )


def test_a_graph_with_damaged_metadata(tmp_path: Path) -> None:
    made.folder(tmp_path, metadata={"encoder": {"vqtok.traits": "{"}})
    assert refused(tmp_path, LoadError).startswith(
        f"{tmp_path / 'encoder.onnx'}: vqtok.traits is '{{': "
    )


def test_a_configuration_of_another_tokenizer(tmp_path: Path) -> None:
    made.folder(tmp_path)
    change(tmp_path, fingerprint=OTHER.to_dict())
    assert "encoder.onnx has the fingerprint" in refused(tmp_path, MismatchError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "vqtok-onnx/2"}, " has the schema 'vqtok-onnx/2'; this version reads "),
        ({"files": {}}, " has no object called 'files' with encoder.onnx"),
        ({"files": {"encoder.onnx": {}}}, " does not say what it should: 'sha256'"),
        ({"files": {"../x": {}, "encoder.onnx": {}}}, " names '../x', which is no file of its own"),
        ({"pixels": "bytes"}, ": pixels is uint8 or float; got 'bytes'"),
        ({"opset": "20"}, ": opset is a whole number, at least 1; got '20'"),
        ({"made_with": None}, ": made_with has the version of each package; got None"),
        ({"agreement": 95}, ": agreement is a share from 0 to 1, or null; got 95"),
        ({"traits": {}}, ": these are no traits of a model: "),
        ({"fingerprint": None}, ": a fingerprint of the schema vqtok-fp/1 has the sha256 of "),
    ],
)
def test_configurations_that_cannot_be(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    made.folder(tmp_path)
    change(tmp_path, **changes)
    assert refused(tmp_path, LoadError).startswith(f"{tmp_path / 'config.json'}{message}")


@pytest.mark.parametrize("name", ["opset", "made_with", "agreement"])
def test_configurations_that_lack_something(tmp_path: Path, name: str) -> None:
    made.folder(tmp_path)
    file = tmp_path / "config.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    del stored[name]
    file.write_text(json.dumps(stored), encoding="utf-8")
    assert refused(tmp_path, LoadError) == f"{file} does not say what it should: '{name}'"


def test_preprocessing_that_acts_otherwise(tmp_path: Path) -> None:
    wrong = Fingerprint("a" * 64, "e" * 64, "c" * 64, "d" * 64)
    roles = ("encoder", "decoder")
    props = {role: {"vqtok.fingerprint": json.dumps(wrong.to_dict())} for role in roles}
    made.folder(tmp_path, metadata=props, fingerprint=wrong.to_dict())
    assert refused(tmp_path, MismatchError) == (
        f"{tmp_path / 'preprocessor_config.json'} makes pixels of the print "
        f"{made.print_of().preprocess}, and config.json says {'a' * 64}: it is another, or "
        "pictures are resized otherwise on this machine"
    )


def test_a_vocabulary_of_another_tokenizer(tmp_path: Path) -> None:
    made.folder(tmp_path)
    file = tmp_path / "visual_tokenizer_config.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    stored["fingerprints"]["default"] = made.print_of(NATIVE).to_dict()
    file.write_text(json.dumps(stored), encoding="utf-8")
    assert refused(tmp_path, MismatchError) == (
        f"{file} names the fingerprint {made.print_of(NATIVE)}, and config.json {made.print_of()}"
    )
    file.unlink()
    assert refused(tmp_path, MismatchError) == (
        f"{file} names the fingerprint (none), and config.json {made.print_of()}"
    )


# --- headers --------------------------------------------------------------------------------------


def test_properties_are_those_that_onnx_reads(tmp_path: Path) -> None:
    made.folder(tmp_path)
    stored = onnx.load(tmp_path / "encoder.onnx")
    entry = stored.metadata_props.add()
    entry.key, entry.value = "long", "ä" * 100_000
    stored.metadata_props.add().key = "empty"
    onnx.save(stored, tmp_path / "long.onnx")
    expected = {one.key: one.value for one in stored.metadata_props}
    assert properties(tmp_path / "long.onnx") == expected
    assert expected["empty"] == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0b", "there is no kind of field 3"),
        (b"\x3a\xff\x01", "it ends too early"),
        (b"\x3a", "it ends too early"),
        (b"\x08" + b"\xff" * 10, "a number has more than 64 bits"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(LoadError) as error:
        properties(tmp_path / "x.onnx")
    assert str(error.value) == f"{tmp_path / 'x.onnx'} is no ONNX file: {why}"

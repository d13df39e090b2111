"""A tokenizer by name, on a device and a backend."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from pydantic import ValidationError

from vqtok.backends import BACKENDS, check_backend
from vqtok.errors import ConfigError
from vqtok.obtain import Request
from vqtok.wanted import Wanted, pick_device


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "tok"
    tiny.tokenizer().save_pretrained(place)
    return place


def graphs(place: Path) -> Path:
    """A folder that calls itself an export."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "vqtok_onnx"}))
    return place


def test_it_is_light() -> None:
    code = (
        "import sys, vqtok.wanted\n"
        "print(*{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_it_travels_and_is_checked() -> None:
    wanted = Wanted(name="org/name", settings={"dim": 8})
    assert pickle.loads(pickle.dumps(wanted)) == wanted
    assert Wanted.model_validate_json(wanted.model_dump_json()) == wanted
    for wrong in ({"backend": "tf"}, {"colour": 1}, {"revision": 2}):
        with pytest.raises(ValidationError):
            Wanted(name="x", **wrong)


def test_the_request_of_it() -> None:
    wanted = Wanted(name="x", revision="v1", family="taming", settings={"a": 1}, backend="torch")
    assert wanted.request() == Request("x", revision="v1", family="taming", settings={"a": 1})
    assert wanted.at(Path("there")) == Wanted(name="there", backend="torch")


def test_loading(folder: Path) -> None:
    tok = Wanted(name=str(folder)).load()
    assert (tok.fingerprint, tok.precision) == (tiny.tokenizer().fingerprint, "ieee32")
    assert str(tok.device) == pick_device("auto")
    assert Wanted(name=str(folder)).load("cpu", "bf16").precision == "bf16"
    with pytest.raises(ConfigError):
        Wanted(name=str(folder), settings={"dim": 8}).load()


def test_devices(folder: Path, tmp_path: Path) -> None:
    assert Wanted(name=str(folder)).device(None) == Wanted(name="x").device("auto") != "auto"
    assert Wanted(name=str(folder)).device("cpu") == "cpu"
    with pytest.raises(ConfigError) as error:
        Wanted(name=str(folder)).device("gpu")
    assert str(error.value).startswith("there is no device 'gpu' here: ")
    exported = str(graphs(tmp_path / "graphs"))
    for wanted in (Wanted(name=exported), Wanted(name="org/name", backend="onnx")):
        assert wanted.is_graphs()
        assert (wanted.device(None), wanted.device("cuda:1")) == ("auto", "cuda:1")
    assert not Wanted(name=exported, backend="torch").is_graphs()
    assert not Wanted(name=str(folder)).is_graphs()
    assert Wanted(name=str(tmp_path), subfolder="graphs").is_graphs()


def test_a_backend_of_the_table_is_one_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from vqtok.serve.settings import ModelSettings

    with pytest.raises(ValidationError):
        Wanted(name="x", backend="mine")
    monkeypatch.setitem(BACKENDS, "mine", "vqtok.backends:TorchBackend")
    assert check_backend("mine") == "mine"
    assert Wanted(name="x", backend="mine").backend == "mine"
    assert ModelSettings(tokenizer="x", backend="mine").wanted().backend == "mine"


def test_backends() -> None:
    assert [check_backend(name) for name in ("auto", "torch", "onnx")] == ["auto", "torch", "onnx"]
    with pytest.raises(ConfigError) as error:
        check_backend("onxx")
    assert str(error.value) == (
        "there is no backend called 'onxx'. Did you mean 'onnx'? Known: auto, onnx, torch."
    )


def test_who_asks_for_the_devices_of_graphs(tmp_path: Path) -> None:
    """A server leaves them to its workers: torch may see fewer GPUs than ONNX Runtime."""
    from vqtok.serve.main import _devices
    from vqtok.serve.settings import ModelSettings, ServeSettings

    one = {"a": ModelSettings(tokenizer=str(graphs(tmp_path / "graphs")))}
    for asked, found in (
        ({}, ["auto"]),
        ({"device": "cuda:70"}, ["cuda:70"]),
        ({"devices": "70,71"}, ["cuda:70", "cuda:71"]),
    ):
        assert _devices(ServeSettings(models=one, **asked), check=True) == found
    both = {**one, "b": ModelSettings(tokenizer="photo-tiny")}
    with pytest.raises(ConfigError) as error:
        _devices(ServeSettings(models=both, device="cuda:70"), check=True)
    assert str(error.value).startswith("there is no device 'cuda:70' here: torch sees ")

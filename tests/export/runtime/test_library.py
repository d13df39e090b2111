"""What is said of an onnxruntime that is not there, or not whole."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from vqtok.errors import ConfigError, MissingExtraError
from vqtok.export.runtime import library


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(library, "_is_installed", names.__contains__)


def test_it_is_the_module() -> None:
    assert library.onnxruntime() is sys.modules["onnxruntime"]


def test_two_builds_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    with pytest.raises(ConfigError) as error:
        library.onnxruntime()
    assert str(error.value) == (
        "onnxruntime and onnxruntime-gpu are installed together, and each overwrites the files of "
        "the other: pip uninstall -y onnxruntime onnxruntime-gpu, then install one, "
        "onnxruntime-gpu for NVIDIA GPUs, else onnxruntime"
    )


def test_an_empty_folder_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(ConfigError) as error:
        library.onnxruntime()
    assert str(error.value) == (
        "onnxruntime-gpu has lost its files, as happens where onnxruntime and onnxruntime-gpu were "
        "both installed and one was removed: pip uninstall -y onnxruntime-gpu, then pip install "
        "onnxruntime-gpu"
    )


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError) as error:
        library.onnxruntime()
    assert str(error.value) == (
        "ONNX graphs run with onnxruntime, which is not installed: pip install 'vqtok[export]'"
    )


def test_what_uninstalling_leaves_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(MissingExtraError) as error:
        library.onnxruntime()
    assert str(error.value) == (
        "ONNX graphs run with onnxruntime, of which nothing but a folder is installed: pip install "
        "'vqtok[export]'"
    )


def test_a_library_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError) as error:
        library.onnxruntime()
    assert str(error.value) == (
        "onnxruntime is installed and cannot be imported (import of onnxruntime halted; None in "
        "sys.modules): pip uninstall -y onnxruntime, then pip install onnxruntime"
    )

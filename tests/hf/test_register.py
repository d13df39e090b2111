"""Which of vqtok, diffusers and transformers was imported first makes no difference."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import pytest

from vqtok.hf import register

MODULE = "vqtok_test_awaited"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """What was told of a module that can be imported: whether its code had run by then."""
    (tmp_path / f"{MODULE}.py").write_text("LOADER = type(__loader__).__name__\nDONE = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    calls: list[bool] = []

    def tell() -> None:
        calls.append(getattr(sys.modules[MODULE], "DONE", False))

    monkeypatch.setitem(register.AFTER, MODULE, tell)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    register.install()
    yield calls
    sys.modules.pop(MODULE, None)


def test_told_once_after_the_first_import(told: list[bool]) -> None:
    for _ in range(2):
        importlib.import_module(MODULE)
    assert told == [True]


def test_told_of_what_is_there_already(told: list[bool]) -> None:
    importlib.import_module(MODULE)
    told.clear()
    register.install()
    assert told == [True]


def test_more_installs_add_nothing(told: list[bool]) -> None:
    before = list(sys.meta_path)
    register.install()
    assert sys.meta_path == before


def test_the_module_keeps_its_own_loader(told: list[bool]) -> None:
    module: Any = importlib.import_module(MODULE)
    plain = PathFinder.find_spec(MODULE)
    assert plain is not None
    assert module.LOADER == "SourceFileLoader"
    assert type(module.__loader__) is type(module.__spec__.loader) is type(plain.loader)


def test_a_spec_that_is_only_looked_at(told: list[bool]) -> None:
    spec = importlib.util.find_spec(MODULE)
    assert spec is not None and spec.loader is not None
    loader: Any = spec.loader
    assert "DONE = True" in loader.get_source(MODULE)
    assert not loader.is_package(MODULE)
    assert pickle.loads(pickle.dumps(loader)).path == loader.path
    assert copy.copy(loader).path == loader.path
    assert not hasattr(loader, "nothing_of_this_name")
    assert told == []
    importlib.import_module(MODULE)
    assert told == [True]


def test_an_import_that_fails_may_be_tried_again(told: list[bool], tmp_path: Path) -> None:
    file = tmp_path / f"{MODULE}.py"
    good = file.read_text()
    file.write_text("raise ImportError('not yet')\n")
    with pytest.raises(ImportError, match="not yet"):
        importlib.import_module(MODULE)
    assert told == []
    file.write_text(good + "# so that the size is another\n")
    importlib.invalidate_caches()
    importlib.import_module(MODULE)
    assert told == [True]


def test_a_module_that_does_not_exist(told: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(register.AFTER, "vqtok_test_absent", lambda: told.append(False))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vqtok_test_absent")
    assert told == []


def test_two_finders_that_ask_each_other(told: list[bool]) -> None:
    class Asks:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            others = (finder for finder in list(sys.meta_path) if finder is not self)
            return next(
                (spec for spec in (f.find_spec(name, path, target) for f in others) if spec), None
            )

    sys.meta_path.insert(0, Asks())  # type: ignore[arg-type]
    importlib.import_module(MODULE)
    assert told == [True]


def test_threads_that_import_at_once(told: list[bool]) -> None:
    threads = [threading.Thread(target=importlib.import_module, args=(MODULE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [True]


def test_a_failure_is_logged_and_stops_no_import(
    told: list[bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise AttributeError("no such table")

    monkeypatch.setitem(register.AFTER, MODULE, fail)
    with caplog.at_level(logging.WARNING, "vqtok"):
        importlib.import_module(MODULE)
    assert caplog.messages == [f"vqtok could not register with {MODULE}: no such table"]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_transformers_alone_brings_no_diffusers() -> None:
    code = (
        "import sys, vqtok, transformers\n"
        "from transformers import AutoConfig, AutoModel, AutoImageProcessor\n"
        "config = AutoConfig.for_model('vqtok')\n"
        "print(type(config).__name__, type(config) in AutoModel._model_mapping.keys(),\n"
        "      'diffusers' in sys.modules)"
    )
    assert run(code) == "VQTokConfig True False"


def test_transformers_first() -> None:
    code = (
        "from transformers import AutoConfig, AutoImageProcessor\n"
        "import vqtok\n"
        "print(type(AutoConfig.for_model('vqtok')).__name__)"
    )
    assert run(code) == "VQTokConfig"


def test_our_module_first_still_registers() -> None:
    """Importing it pulls transformers' own modules in, while it is half there itself."""
    code = (
        "import vqtok.hf.image_processing\n"
        "from transformers import AutoConfig\n"
        "print(type(AutoConfig.for_model('vqtok')).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "VQTokConfig", done.stderr
    assert "could not register" not in done.stderr

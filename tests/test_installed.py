"""What an installed copy must do; `dev.py check` runs this file on the wheel alone as well.

So it knows nothing of the checkout: neither its files nor the other tests' helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import vqtok

BUNDLED = sorted(
    entry.name for entry in files("vqtok.zoo").iterdir() if (entry / "config.json").is_file()
)


def test_the_version_is_the_distributions() -> None:
    assert vqtok.__version__ == version("vqtok")


def test_every_module_imports() -> None:
    found = {module.name for module in pkgutil.walk_packages(vqtok.__path__, "vqtok.")}
    assert {"vqtok.cli", "vqtok.training", "vqtok.serve", "vqtok.export"} <= found
    for name in found:
        if not name.endswith(".__main__"):
            importlib.import_module(name)


def test_every_public_name_is_there() -> None:
    for name in vqtok.__all__:
        assert getattr(vqtok, name) is not None


def test_type_checkers_read_it() -> None:
    assert (files("vqtok") / "py.typed").is_file()


def test_the_registries_find_their_parts() -> None:
    from vqtok.estimators import Estimator
    from vqtok.quantizers import Quantizer

    assert {"rotation", "ste"} <= set(vqtok.ESTIMATORS)
    assert {"vector", "fsq", "residual"} <= set(vqtok.QUANTIZERS)
    assert all(isinstance(vqtok.ESTIMATORS[name], Estimator) for name in vqtok.ESTIMATORS)
    assert all(issubclass(vqtok.QUANTIZERS[name], Quantizer) for name in vqtok.QUANTIZERS)


def test_there_is_a_tokenizer_in_it() -> None:
    assert "photo-tiny" in BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_tokenizer_goes_there_and_back(name: str) -> None:
    tokenizer = vqtok.VisualTokenizer.from_pretrained(name)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    batch = tokenizer([pixels], return_tensors="pt")
    assert batch["input_ids"].shape[0] == 1
    assert len(tokenizer.batch_decode(batch["input_ids"])) == 1


def test_the_command_is_there() -> None:
    command = Path(sys.executable).with_name("vqtok")
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(verb in done.stdout for verb in ("encode", "decode", "reconstruct", "info"))

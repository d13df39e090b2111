"""The script that makes metric weights, without its archives."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vqtok.errors import LoadError
from vqtok.metrics.i3d import I3D
from vqtok.metrics.weights import find_weights


def script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "metric_weights.py"
    spec = importlib.util.spec_from_file_location("vqtok_benchmarks_metric_weights", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SCRIPT = script()


def pickled(tree: Any) -> bytes:
    """As NumPy 1 wrote it, like those in the archives."""
    return pickle.dumps(tree, protocol=3).replace(b"numpy._core", b"numpy.core")


def archive(folder: Path, files: dict[str, bytes]) -> tuple[Path, Any]:
    """A source archive, and what the script knows of it."""
    path = folder / "some_package-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"some_package-1.0/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, SCRIPT.Package("some-package", "1.0", sha256, 1)


# --- pickles --------------------------------------------------------------------------------------


def test_arrays_come_out_of_a_pickle() -> None:
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)
    found = SCRIPT.arrays(pickled({"a": {"b": one, "c": {"d": two}}, "e": two}))
    assert list(found) == ["a|b", "a|c|d", "e"]
    assert np.array_equal(found["a|b"], one) and np.array_equal(found["a|c|d"], two)


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("/nowhere/at/all",)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Hostile(), f"{os.name}.mkdir"),
        ({"a": torch.nn.functional.relu}, "torch.nn.functional.relu"),
        (io.BytesIO, "_io.BytesIO"),
    ],
)
def test_nothing_but_arrays_does(content: Any, named: str) -> None:
    with pytest.raises(pickle.UnpicklingError) as error:
        SCRIPT.arrays(pickled(content))
    assert str(error.value) == f"it names {named}, which is no part of an array"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.GroupNorm(1, 3))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.layers(x))


def test_arrays_come_out_of_torchscript() -> None:
    net, file = Net(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(net), file)
    found = SCRIPT.scripted_arrays(file.getvalue())
    expected = {name.replace(".", "|"): value for name, value in net.state_dict().items()}
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert np.array_equal(found[name], tensor.numpy()), name


def test_nothing_but_a_network_does() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as program:
        program.writestr("net/data.pkl", pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(pickle.UnpicklingError) as error:
        SCRIPT.scripted_arrays(file.getvalue())
    assert str(error.value) == f"it names {os.name}.mkdir, which is no part of a network"


# --- layers ---------------------------------------------------------------------------------------


def test_kernels_are_turned() -> None:
    theirs = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    ours = SCRIPT._kernel(theirs)
    assert ours.shape == (5, 4, 2, 3) and ours.is_contiguous()
    assert ours[4, 1, 0, 2] == theirs[0, 2, 1, 4]


def test_a_trunk_has_torchvisions_numbers() -> None:
    rng = np.random.default_rng(0)
    layers = {
        f"Conv_{number}": {
            "kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32),
            "bias": rng.normal(size=4).astype(np.float32),
        }
        for number in range(2)
    }
    found = SCRIPT.trunk("Net_0", (0, 3))(pickled({"Net_0": layers}))
    assert list(found) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert torch.equal(found["3.bias"], torch.tensor(layers["Conv_1"]["bias"]))
    assert found["3.weight"].shape == (4, 2, 3, 3)


def flax_i3d(rng: np.random.Generator) -> dict[str, Any]:
    """Random numbers in the place of each weight of I3D, by Flax's names."""
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for name, module in I3D().named_modules():
        if not isinstance(module, nn.Conv3d):
            continue
        block, _, branch = name.removesuffix(".conv").partition(".")
        out, into, *size = module.weight.shape
        layer: dict[str, Any] = {"Conv_0": {"kernel": rng.random((*size, into, out), np.float32)}}
        if block == "logits":
            layer["Conv_0"]["bias"] = rng.random(out, np.float32)
            params["Logits/Conv3d_0c_1x1"] = layer
            continue
        layer["BatchNorm_0"] = {"bias": rng.random(out, np.float32)}
        moments = {k: rng.random((1, 1, 1, 1, out), np.float32) for k in ("mean", "var")}
        for tree, leaf in ((params, layer), (stats, {"BatchNorm_0": moments})):
            if branch:
                tree.setdefault(block, {})[SCRIPT.BRANCHES[branch]] = leaf
            else:
                tree[block] = leaf
    return {"params": params, "batch_stats": stats}


def test_i3d_is_whole(tmp_path: Path) -> None:
    theirs = flax_i3d(np.random.default_rng(0))
    path, package = archive(tmp_path, {"weights/i3d.ckpt": pickled(theirs)})
    known = next(weights for weights in SCRIPT.WEIGHTS if weights.convert is SCRIPT.i3d)
    SCRIPT.write(known._replace(member="weights/i3d.ckpt"), path, tmp_path)
    net = I3D.load(tmp_path)  # it complains of what lacks and what nobody knows
    batch = theirs["batch_stats"]["Mixed_4c"]["Branch_2/Conv3d_0b_3x3"]["BatchNorm_0"]
    block = net.get_submodule("Mixed_4c.b2b")
    assert torch.equal(block.bn.running_mean, torch.tensor(batch["mean"]).flatten())
    assert torch.equal(block.bn.running_var, torch.tensor(batch["var"]).flatten())
    kernel = theirs["params"]["Mixed_4c"]["Branch_2/Conv3d_0b_3x3"]["Conv_0"]["kernel"]
    assert torch.equal(block.conv.weight, torch.tensor(kernel).permute(4, 3, 0, 1, 2))
    assert SCRIPT.fetch(package, tmp_path) == path


# --- archives and files ---------------------------------------------------------------------------


def test_an_archive_with_other_bytes(tmp_path: Path) -> None:
    path, package = archive(tmp_path, {"a": b"a"})
    with pytest.raises(LoadError) as error:
        SCRIPT.fetch(package._replace(sha256="0" * 64), tmp_path)
    assert str(error.value) == (
        f"{path} has the sha256 {package.sha256}; that of some-package 1.0 is {'0' * 64}"
    )


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [("a warning\nERROR: no network\n", "ERROR: no network"), ("", "it gave no reason")],
)
def test_pip_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, reason: str
) -> None:
    seen = []

    def run(command: list[str], **_: Any) -> Any:
        assert "--require-hashes" in command and "--no-deps" in command
        at = command.index("--requirement") + 1
        seen.append(Path(command[at]).read_text())
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(SCRIPT.subprocess, "run", run)
    with pytest.raises(LoadError) as error:
        SCRIPT.fetch(SCRIPT.Package("some-package", "1.0", "ab", 1), tmp_path)
    assert str(error.value) == f"pip cannot fetch some-package 1.0: {reason}"
    assert seen == ["some-package==1.0 --hash=sha256:ab\n"]


def test_files_are_found_by_their_names(tmp_path: Path) -> None:
    names = ("inception", "alexnet", "vgg16", "i3d")
    for name, weights in zip(names, SCRIPT.WEIGHTS, strict=True):
        (tmp_path / weights.file).touch()
        assert find_weights(name, tmp_path) == tmp_path / weights.file


def test_the_command_line_says_what_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, package = archive(tmp_path, {"a": b"a"})
    monkeypatch.setattr(SCRIPT, "PACKAGES", (package._replace(sha256="0"),))
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "out"), "--archives", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        SCRIPT.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("metric_weights: ")

"""Weights come from the first place that has them, and what is missing is said in full."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from metric_weights import VARIABLES
from safetensors.torch import save_file

from vqtok.errors import LoadError, UnknownNameError
from vqtok.metrics.weights import MissingWeights, find_weights, read_tensors, weights_print

ALEX = "lpips_alexnet_features.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's hub cache, empty, and no variable set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def put(folder: Path, name: str = ALEX) -> Path:
    (folder / name).write_bytes(b"weights")
    return folder / name


def hashed(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose bytes stand for those that its name promises."""
    digits = name.rpartition("-")[2].partition(".")[0]
    monkeypatch.setattr("vqtok.metrics.weights._sha256", lambda *about: digits + "0" * 56)
    return put(folder, name)


# --- the order ------------------------------------------------------------------------------------


def test_each_place_serves_when_those_before_it_are_empty(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("given", "own", "all")]
    for folder in folders:
        folder.mkdir()
    given, own, every = folders

    found = put(cache)
    assert find_weights("alexnet") == found
    monkeypatch.setenv("VQTOK_METRIC_WEIGHTS", str(every))
    assert find_weights("alexnet") == found
    found = put(every)
    assert find_weights("alexnet") == found
    found = put(own, "anything.bin")
    monkeypatch.setenv("VQTOK_ALEXNET", str(found))
    assert find_weights("alexnet") == found
    found = put(given)
    assert find_weights("alexnet", found) == find_weights("alexnet", str(given)) == found


def test_a_variable_may_name_a_folder_and_begin_with_a_tilde(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = put(place)
    monkeypatch.setenv("HOME", str(place.parent))
    monkeypatch.setenv("USERPROFILE", str(place.parent))
    monkeypatch.setenv("VQTOK_ALEXNET", "~/place")
    assert find_weights("alexnet") == found


def test_inception_with_its_classifier_comes_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, "fid_inception_2015_12_05.safetensors")
    assert find_weights("inception", place).suffix == ".safetensors"
    whole = hashed(place, "pt_inception-2015-12-05-6726825d.pth", monkeypatch)
    assert find_weights("inception", place) == whole


def test_the_heads_are_shipped() -> None:
    assert find_weights("lpips").name == "lpips_heads.safetensors"


# --- what is missing ------------------------------------------------------------------------------


def test_nothing_anywhere(cache: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingWeights) as error:
        find_weights("vgg16")
    assert str(error.value) == (
        "no weights of VGG16 (the network of LPIPS-VGG): vgg16-397923af.pth or "
        f"lpips_vgg16_features.safetensors is not in {cache}, VQTOK_METRIC_WEIGHTS is not set, "
        "and VQTOK_VGG16 is not set. Allow the download of "
        "https://download.pytorch.org/models/vgg16-397923af.pth, or fetch it and name the file in "
        "VQTOK_VGG16 or its folder in VQTOK_METRIC_WEIGHTS."
    )
    monkeypatch.setenv("VQTOK_METRIC_WEIGHTS", str(place))
    with pytest.raises(MissingWeights) as error:
        find_weights("i3d", allow_download=True)
    assert str(error.value) == (
        "no weights of I3D (the network of FVD): i3d_kinetics400.safetensors or "
        f"i3d_pretrained_400.pt is not in {cache}, not in {place} (VQTOK_METRIC_WEIGHTS), and "
        "VQTOK_I3D is not set. To have it, name the file in VQTOK_I3D or its folder in "
        "VQTOK_METRIC_WEIGHTS."
    )


def test_a_place_that_was_named_is_the_only_one(
    cache: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache)
    with pytest.raises(MissingWeights) as error:
        find_weights("alexnet", place)
    assert str(error.value) == (
        f"no weights of AlexNet (the network of LPIPS-Alex): the path given says {place}, which is "
        f"a folder without alexnet-owt-7be5be79.pth or {ALEX}"
    )
    monkeypatch.setenv("VQTOK_ALEXNET", str(place / "gone"))
    with pytest.raises(MissingWeights) as error:
        find_weights("alexnet")
    assert str(error.value) == (
        "no weights of AlexNet (the network of LPIPS-Alex): VQTOK_ALEXNET says "
        f"{place / 'gone'}, which is not there"
    )


def test_a_folder_of_weights_that_is_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_METRIC_WEIGHTS", str(place / "gone"))
    with pytest.raises(MissingWeights) as error:
        find_weights("alexnet")
    assert str(error.value) == f"VQTOK_METRIC_WEIGHTS says {place / 'gone'}, which is no folder"


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError) as error:
        find_weights("vgg19")
    assert str(error.value) == (
        "there are no metric weights called 'vgg19'. Did you mean 'vgg16'? "
        "Known: alexnet, i3d, inception, lpips, vgg16."
    )


# --- hashes ---------------------------------------------------------------------------------------


def test_a_name_with_a_hash_is_held_to_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(place, "vgg16-397923af.pth")
    with pytest.raises(LoadError) as error:
        find_weights("vgg16", file)
    assert str(error.value) == (
        f"{file} is damaged or another file: its sha256 begins with "
        f"{hashlib.sha256(b'weights').hexdigest()[:8]}, its name says 397923af"
    )
    assert find_weights("vgg16", hashed(place, file.name, monkeypatch)) == file


def test_the_print_is_that_of_the_bytes_now(place: Path) -> None:
    file = put(place)
    assert weights_print(file) == hashlib.sha256(b"weights").hexdigest()
    file.write_bytes(b"others")
    os.utime(file, ns=(1, 1))
    assert weights_print(file) == hashlib.sha256(b"others").hexdigest()


# --- the download ---------------------------------------------------------------------------------


def test_a_download_is_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *a, **k: asked.append((a, k)))
    cache.rmdir()
    with pytest.raises(MissingWeights):
        find_weights("inception")
    assert asked == []
    name = "weights-inception-2015-12-05-6726825d.pth"
    assert find_weights("inception", allow_download=True) == cache / name
    url = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{name}"
    assert asked == [((url, str(cache / name)), {"hash_prefix": "6726825d"})]
    assert cache.is_dir()


def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(LoadError) as error:
        find_weights("alexnet", allow_download=True)
    assert str(error.value) == (
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth cannot be fetched: "
        "<urlopen error no route>"
    )


# --- reading --------------------------------------------------------------------------------------


def test_both_kinds_of_files_are_read(place: Path) -> None:
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    save_file(tensors, place / "w.safetensors")
    torch.save(OrderedDict(tensors), place / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        read = read_tensors(place / name)
        assert list(read) == ["a", "b"]
        assert all(torch.equal(read[key], tensors[key]) for key in tensors)


class Code:
    """What a pickle may hold and weights may not."""


@pytest.mark.parametrize("content", [{"a": torch.ones(1), "epoch": 3}, [torch.ones(1)]])
def test_something_else_than_tensors(place: Path, content: object) -> None:
    torch.save(content, place / "w.pth")
    with pytest.raises(LoadError) as error:
        read_tensors(place / "w.pth")
    assert str(error.value) == f"{place / 'w.pth'} holds something else than tensors by their names"


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "code.pth", "gone.pth"])
def test_a_file_that_cannot_be_read(place: Path, name: str) -> None:
    put(place, "w.safetensors")
    put(place, "w.pth")
    torch.save({"a": Code()}, place / "code.pth")
    with pytest.raises(LoadError) as error:
        read_tensors(place / name)
    assert str(error.value).startswith(f"{place / name} cannot be read as weights: ")

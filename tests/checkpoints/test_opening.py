from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints.pickles import save
from safetensors.torch import save_file
from torch import Tensor

from vqtok.checkpoints.opening import files_of, find_checkpoint, open_checkpoint
from vqtok.errors import LoadError


def tensors(count: int = 2) -> dict[str, Tensor]:
    return {f"encoder.{n}.weight": torch.full((2, 3), float(n)) for n in range(count)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    keys = list(found) == list(expected)
    return keys and all(torch.equal(found[key], expected[key]) for key in expected)


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(LoadError) as error:
        open_checkpoint(path, **options)
    return str(error.value)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a"])
def test_what_torch_saved(tmp_path: Path, kind: str, name: str) -> None:
    file = save({"state_dict": tensors(), "epoch": 3}, tmp_path / name, kind)
    found = open_checkpoint(file)
    assert same(found.tensors, tensors())
    assert (found.settings, found.origin, found.notes) == ({}, str(file), ())


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_under_any_name(tmp_path: Path, name: str) -> None:
    save_file(tensors(), tmp_path / name)
    assert same(open_checkpoint(tmp_path / name, origin="x").tensors, tensors())
    assert open_checkpoint(tmp_path / name, origin="x").origin == "x"


def test_arrays_of_a_bare_pickle(tmp_path: Path) -> None:
    file = save({"a": np.arange(3), "b": "text"}, tmp_path / "a.ckpt", "bare")
    assert same(open_checkpoint(file).tensors, {"a": torch.arange(3)})


def lfs(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


def archive(file: Path) -> None:
    with tarfile.open(file, "w") as made:
        made.addfile(tarfile.TarInfo("last.ckpt"), io.BytesIO())


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("model.ckpt", b"x")


def script(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a/data.pkl", b"x")
        made.writestr("a/constants.pkl", b"x")


def compressed(file: Path) -> None:
    save(tensors(), file)
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in parts.items():
            made.writestr(name, data)


def big_endian(file: Path) -> None:
    save(tensors(), file)
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w") as made:
        for name, data in parts.items():
            made.writestr(name, b"big" if name.endswith("byteorder") else data)


WRONG = {
    "empty": (lambda file: file.write_bytes(b""), "is empty; download it again"),
    "text": (
        lambda file: file.write_text("dear diary, today"),
        "is no checkpoint: it is neither safetensors nor written by torch.save, and begins with "
        "b'dear diary, toda'",
    ),
    "lfs": (
        lfs,
        "is a pointer of git-lfs and not the file itself; fetch that with git lfs pull",
    ),
    "page": (
        lambda file: file.write_text("\n <!DOCTYPE html><html>"),
        "is a web page and no checkpoint: the address that it came from shows one, so download it "
        "in a browser, or from the address behind the button",
    ),
    "tar": (archive, "is an archive; unpack it and name the checkpoint that is in it"),
    "zip": (
        zipped,
        "is a zip archive that torch.save did not write: it holds model.ckpt; unpack it and name "
        "the checkpoint that is in it",
    ),
    "script": (
        script,
        "is refused: it is a TorchScript archive, which is a program; take a file that holds the "
        "weights alone",
    ),
    "compressed": (compressed, "is compressed, which torch.save never does; unpack it"),
    "order": (
        big_endian,
        "was written on a big-endian machine; save it again on a little-endian one",
    ),
    "nothing": (
        lambda file: save({"epoch": 3, "x": [1, "a"]}, file),
        "holds no tensors, and so no model",
    ),
    "tensor": (
        lambda file: save(torch.zeros(3), file),
        "holds one tensor and no names; a model's file names each of its own",
    ),
    "number": (lambda file: save(3, file), "holds no tensors, and so no model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_something_else(tmp_path: Path, name: str) -> None:
    make, message = WRONG[name]
    make(tmp_path / "a.ckpt")
    assert refused(tmp_path / "a.ckpt") == f"{tmp_path / 'a.ckpt'} {message}"


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_files_that_are_cut_short(tmp_path: Path, kind: str, share: float) -> None:
    """Wherever it ends: one sentence, and no other error."""
    whole, file = tmp_path / "whole", tmp_path / "a.ckpt"
    made = {f"a{n}": torch.randn(50) for n in range(20)}
    if kind == "safetensors":
        save_file(made, whole)
    else:
        save(made, whole, kind)
    data = whole.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    message = refused(file)
    assert message.startswith((f"{file} is damaged or cut short", f"{file} is no checkpoint"))
    assert "\n" not in message
    if kind == "zip":
        assert message == f"{file} is damaged or cut short"


def test_a_legacy_file_whose_numbers_lack(tmp_path: Path) -> None:
    file = save({"a": torch.zeros(1000)}, tmp_path / "a.pt", "legacy")
    file.write_bytes(file.read_bytes()[:-40])
    assert refused(file) == (
        f"{file} is damaged or cut short: it ends within a tensor of shape (1000,)"
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("<Q", 2**40) + b"{}", "Error while deserializing header: "),
        (struct.pack("<Q", 9) + b'{"a": [1]', "Error while deserializing header: "),
    ],
)
def test_a_broken_header_of_safetensors(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    message = refused(tmp_path / "a.safetensors")
    assert message.startswith(f"{tmp_path / 'a.safetensors'} is damaged or cut short: {why}")


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_flipped_bytes_never_surprise(tmp_path: Path, form: str) -> None:
    """Of a file with one wrong byte come other tensors, or a `LoadError`."""
    data = save({"state_dict": {"a": torch.zeros(4)}}, tmp_path / "whole", form).read_bytes()
    file, random = tmp_path / "a.pt", np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(data)
        changed[int(random.integers(len(data)))] ^= int(random.integers(1, 256))
        file.write_bytes(changed)
        try:
            open_checkpoint(file)
        except LoadError as error:
            assert "\n" not in str(error)


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "x") == f"there is no file or folder {tmp_path / 'x'}"


# --- folders and parts ----------------------------------------------------------------------------


def test_a_folder_with_one_checkpoint(tmp_path: Path) -> None:
    save(tensors(), tmp_path / "last.ckpt")
    (tmp_path / "notes.txt").write_text("")
    assert find_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    assert same(open_checkpoint(tmp_path).tensors, tensors())
    save_file(tensors(1), tmp_path / "model.safetensors")
    assert find_checkpoint(tmp_path) == tmp_path / "model.safetensors"


def test_folders_that_do_not_tell(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert refused(tmp_path) == (
        f"{tmp_path} holds no checkpoint: notes.txt; one ends with .bin, .ckpt, .pt, .pth, "
        ".safetensors"
    )
    for name in "abcdefgh":
        save(tensors(), tmp_path / f"{name}.pt")
    assert refused(tmp_path) == (
        f"{tmp_path} holds several checkpoints: a.pt, b.pt, c.pt, d.pt, e.pt, f.pt and 2 more. "
        "Name one of them with --filename (filename=)"
    )
    (tmp_path / "x").mkdir()
    assert "holds no checkpoint: it is empty; one ends" in refused(tmp_path / "x")


def parts(folder: Path, suffix: str = "safetensors") -> Path:
    """A language model in three files, whose tokenizer lies in two of them."""
    made = [
        {"model.layers.0.weight": torch.zeros(1), "model.vqmodel.a": torch.ones(2)},
        {"model.layers.1.weight": torch.zeros(1)},
        {"model.vqmodel.b": torch.ones(3), "lm_head.weight": torch.zeros(1)},
    ]
    names = {}
    for number, part in enumerate(made):
        name = f"model-{number}.{suffix}"
        names |= dict.fromkeys(part, name)
        if suffix == "bin":
            save(part, folder / name)
        else:
            save_file(part, folder / name)
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_parts_of_a_larger_model(tmp_path: Path, suffix: str) -> None:
    """Only the files that hold the tokenizer have to be there."""
    index = parts(tmp_path, suffix)
    (tmp_path / f"model-1.{suffix}").unlink()
    assert [file.name for file in files_of(index)] == [
        index.name,
        f"model-0.{suffix}",
        f"model-2.{suffix}",
    ]
    for path in (tmp_path, index):
        found = open_checkpoint(path)
        assert same(found.tensors, {"a": torch.ones(2), "b": torch.ones(3)})
        assert found.notes == ("3 tensors of the model around the tokenizer were not read",)


def test_parts_that_lack(tmp_path: Path) -> None:
    index = parts(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    assert refused(tmp_path) == f"{tmp_path} lacks model-2.safetensors, which {index.name} names"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "is no index of weights: it has no object 'weight_map' of file names"),
        ("{", "is no index of weights: it has no object 'weight_map' of file names"),
        ('{"weight_map": {"a": ["b"]}}', "is no index of weights: it has no object"),
        ('{"weight_map": {"a": "../b.bin"}}', "names '../b.bin', which is no file beside it"),
        ('{"weight_map": {"a": 3}}', "names 3, which is no file beside it"),
    ],
)
def test_indices_that_are_none(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.index.json").write_text(text)
    assert refused(tmp_path).startswith(f"{tmp_path / 'a.index.json'} {why}")


def test_two_keys_that_are_one_tensor(tmp_path: Path) -> None:
    file = save({"a._orig_mod.b": torch.zeros(1), "a.b": torch.zeros(1)}, tmp_path / "a.pt")
    assert refused(file) == f"{file} holds both 'a._orig_mod.b' and 'a.b', which are one tensor"


def test_a_larger_model_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    made = {"first_stage_model.a": torch.ones(2), "model.diffusion_model.b": torch.zeros(9)}
    file = save({"state_dict": made}, tmp_path / "a.ckpt")
    with file.open("r+b") as opened:  # the other one's numbers, as if the file were damaged there
        where = file.read_bytes().index(made["model.diffusion_model.b"].numpy().tobytes())
        opened.seek(where)
        opened.write(b"\xff" * 36)
    assert same(open_checkpoint(file).tensors, {"a": torch.ones(2)})


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("a.yaml", "n_embed: 8"),
        ("a.yml", "n_embed: 8"),
        ("a.json", '{"n_embed": 8}'),
        ("config.yaml", "model: {target: x, params: {n_embed: 8}}"),
        ("config.json", '{"vq_config": {"n_embed": 8}}'),
        ("model.yaml", "model: {init_args: {n_embed: 8}}"),
        ("hparams.yaml", "n_embed: 8"),
        ("args.json", '{"n_embed": 8}'),
        ("../configs/model.yaml", "n_embed: 8"),
        ("../configs/2021-05-05T00-00-00-project.yaml", "n_embed: 8"),
    ],
)
def test_settings_beside_a_file(tmp_path: Path, place: str, text: str) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (tmp_path / "configs").mkdir()
    file = save(tensors(), folder / "a.ckpt")
    (folder / place).write_text(text)
    found = open_checkpoint(file)
    assert found.settings["n_embed"] == 8
    assert found.notes == (f"settings are those of {Path(place).name}",)


def test_the_nearer_settings_win(tmp_path: Path) -> None:
    inside = {"hyper_parameters": {"a": 1, "b": 1, "c": 1, "d": {"x": 1, "y": 1}}}
    file = save({"state_dict": tensors(), **inside}, tmp_path / "a.ckpt")
    (tmp_path / "a.yaml").write_text("{b: 2, c: 2, d: {y: 2}}")
    (tmp_path / "config.yaml").write_text("{a: 9, b: 9}")
    found = open_checkpoint(file, settings={"c": 3})
    assert found.settings == {"a": 1, "b": 2, "c": 3, "d": {"x": 1, "y": 2}}
    (tmp_path / "other.yaml").write_text("b: 4")
    found = open_checkpoint(file, config=tmp_path / "other.yaml")
    assert found.settings["b"] == 4
    assert found.notes == ("settings are those of other.yaml",)


def test_the_range_of_pixels_of_a_processor(tmp_path: Path) -> None:
    """And nothing else of it; whatever else tells the range wins."""
    file = save(tensors(), tmp_path / "a.ckpt")
    processor = tmp_path / "preprocessor_config.json"
    processor.write_text('{"image_mean": [0.1], "image_std": [0.2], "size": 3, "n_embed": 4}')
    note = "the range of pixels is that of preprocessor_config.json, unless settings tell it"
    found = open_checkpoint(file)
    assert found.settings == {"image_mean": [0.1], "image_std": [0.2]}
    assert found.notes == (note,)
    (tmp_path / "a.yaml").write_text("{n_embed: 8, image_std: [0.3]}")
    found = open_checkpoint(file)
    assert found.settings == {"image_mean": [0.1], "image_std": [0.3], "n_embed": 8}
    assert found.notes == ("settings are those of a.yaml", note)
    (tmp_path / "other.yaml").write_text("n_embed: 9")
    found = open_checkpoint(file, config=tmp_path / "other.yaml", settings={"image_mean": [0.4]})
    assert found.settings == {"image_mean": [0.4], "image_std": [0.2], "n_embed": 9}
    processor.write_text('{"image_mean": null, "size": 3}')
    assert open_checkpoint(file).notes == ("settings are those of a.yaml",)
    processor.write_text("{")
    assert refused(file).startswith(f"{processor} is no JSON that can be read: ")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.yaml", "- 1", "holds a list; settings are an object"),
        ("a.json", "3", "holds a int; settings are an object"),
        (
            "a.yaml",
            "b: 1\na: [",
            "is no YAML that can be read: line 2: expected the node content, but found "
            "'<stream end>'",
        ),
        ("a.json", "{", "is no JSON that can be read: "),
        ("a.yaml", "a: !!python/object/apply:os.system [ls]", "is no YAML that can be read: "),
    ],
)
def test_settings_that_are_none(tmp_path: Path, name: str, text: str, why: str) -> None:
    file = save(tensors(), tmp_path / "a.pt")
    (tmp_path / name).write_text(text)
    message = refused(file)
    assert message.startswith(f"{tmp_path / name} {why}")
    assert "\n" not in message


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    file = save(tensors(), tmp_path / "a.pt")
    assert refused(file, config="gone.yaml") == "there is no file gone.yaml"

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import toy_family
from checkpoints.pickles import save
from checkpoints.test_opening import parts
from fakehub import FakeHub
from safetensors.torch import load_file

from vqtok import VisualTokenizer, conversions
from vqtok import obtain as module
from vqtok.autoencoders.loading import load_model
from vqtok.checkpoints import prints
from vqtok.checkpoints.building import Conversion, build
from vqtok.conversions import Source
from vqtok.errors import ConfigError, LoadError, UnknownNameError
from vqtok.folders import read_report
from vqtok.hub import Resolved
from vqtok.obtain import Request, find, obtain, taken
from vqtok.zoo import bundled
from vqtok.zoo.aliases import Alias, aliases


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, a cache, and the toy family."""
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    toy_family.register(monkeypatch)
    return tmp_path / "here"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.patch(monkeypatch, tmp_path / "hub")
        yield made


def converted(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/converted").glob("*"))


def refused(*args: Any, kind: type[Exception] = LoadError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        obtain(*args, **options)
    return str(error.value)


def bytes_of(tmp_path: Path, **options: Any) -> bytes:
    return toy_family.file(tmp_path / "made.pt", **options).read_bytes()


# --- files and folders ----------------------------------------------------------------------------


def test_a_file_becomes_a_folder(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    found = obtain(file)
    assert (found.repo, found.commit, found.family) == (None, None, "toy")
    assert converted(tmp_path) == [found.path]
    assert {entry.name for entry in found.path.iterdir()} == {
        "README.md",
        "config.json",
        "conversion.json",
        "diffusion_pytorch_model.safetensors",
        "discriminator.safetensors",
        "preprocessor_config.json",
        "probe.safetensors",
        "visual_tokenizer_config.json",
    }
    assert load_file(found.path / "discriminator.safetensors").keys() == {"blocks.0.weight"}
    report = read_report(found.path)
    assert report["source"] == {
        "file": "a.ckpt",
        "sha256": {"a.ckpt": hashlib.sha256(file.read_bytes()).hexdigest()},
        "repository": None,
        "commit": None,
        "alias": None,
        "config": None,
    }
    assert report["notes"] == ["Toys are small."]
    assert str(tmp_path) not in (found.path / "conversion.json").read_text()


def test_the_card_says_where_it_is_from(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    card = (obtain(file).path / "README.md").read_text()
    assert "# A toy, converted\n" in card
    assert "Converted by vqtok from `a.ckpt`, a checkpoint of the family `toy` (a toy)" in card
    assert "Licence of the weights, as far as it is known: a toy's licence." in card
    assert f"- `{hashlib.sha256(file.read_bytes()).hexdigest()}` a.ckpt" in card
    assert "- Toys are small." in card


def test_a_tokenizer_from_a_file(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    tok = VisualTokenizer.from_pretrained(str(file))
    own = toy_family.model()
    assert tok.settings.size == 16
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(tok.model.encode_codes(pixels), own.encode_codes(pixels))
    other = VisualTokenizer.from_pretrained(file, config={"size": 32}, family="toy")
    assert (other.settings.size, other.fingerprint.codebook) == (32, tok.fingerprint.codebook)


@pytest.mark.parametrize("marks", [{"_class_name": "Toy"}, {"run": {"name": "x"}}])
def test_a_whole_configuration_holds_what_nothing_reads(
    marks: dict[str, Any], tmp_path: Path
) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    tok = VisualTokenizer.from_pretrained(file, config={"size": 32, "seed": 1, **marks})
    assert tok.settings.size == 32
    with pytest.raises(ConfigError) as error:
        VisualTokenizer.from_pretrained(file, config={"size": 32, "seed": 1})
    assert str(error.value).startswith("nothing of the family toy reads the setting 'seed'")


def test_a_copy_says_where_it_is_from(tmp_path: Path) -> None:
    first = obtain(toy_family.file(tmp_path / "a.ckpt")).path
    tok = VisualTokenizer.from_pretrained(first)
    assert tok.conversion == read_report(first)
    tok.with_preprocess(size=24).save_pretrained(tmp_path / "copy")
    assert read_report(tmp_path / "copy") == read_report(first)
    card = (tmp_path / "copy/README.md").read_text()
    assert "# A toy, converted\n" in card
    assert "Licence of the weights, as far as it is known: a toy's licence." in card
    other = VisualTokenizer.from_model(toy_family.model())
    assert other.conversion is None
    other.save_pretrained(tmp_path / "copy")
    assert read_report(tmp_path / "copy") == {}


def test_a_copy_keeps_what_training_goes_on_from(tmp_path: Path) -> None:
    first = obtain(toy_family.file(tmp_path / "a.ckpt")).path
    copy = tmp_path / "copy" / "discriminator.safetensors"
    tok = VisualTokenizer.from_pretrained(first)
    for each in (tok, tok.with_preprocess(size=24)):
        each.save_pretrained(tmp_path / "copy")
        assert copy.read_bytes() == (first / "discriminator.safetensors").read_bytes()
    VisualTokenizer.from_pretrained(copy.parent).save_pretrained(copy.parent)
    assert copy.exists()
    VisualTokenizer.from_model(toy_family.model()).save_pretrained(copy.parent)
    assert not copy.exists()


def test_a_home_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    toy_family.file(tmp_path / "a.ckpt")
    assert obtain("~/a.ckpt").family == "toy"


@pytest.mark.parametrize("variable", ["VQTOK_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_where_the_cache_is(tmp_path: Path, monkeypatch: Any, variable: str) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    for name in ("VQTOK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "mine"))
    inner = {"VQTOK_CACHE": "", "XDG_CACHE_HOME": "vqtok", "HOME": ".cache/vqtok"}[variable]
    assert obtain(file).path.parent == tmp_path / "mine" / inner / "converted"


def test_a_folder_with_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    (folder / "inner").mkdir(parents=True)
    toy_family.file(folder / "inner/a.ckpt", size=None)
    (folder / "inner/config.json").write_text('{"model_type": "toy", "size": 24}')
    found = obtain(folder, subfolder="inner")
    assert read_report(found.path)["source"]["config"] == "config.json"
    assert obtain(folder / "inner") == found
    assert obtain(folder, filename="inner/a.ckpt") == found
    assert obtain(folder / "inner", filename="a.ckpt") == found
    toy_family.file(folder / "inner/b.ckpt", 1)
    assert refused(folder / "inner") == (
        f"{folder / 'inner'} holds several checkpoints: a.ckpt, b.ckpt. Name one of them "
        "with --filename (filename=)"
    )
    assert obtain(folder / "inner", filename="b.ckpt") != found
    assert refused(folder, filename="c.ckpt") == f"{folder} has no file 'c.ckpt'"


def test_our_own_are_taken_as_they_are(tmp_path: Path) -> None:
    ours = obtain(toy_family.file(tmp_path / "a.ckpt")).path
    assert obtain(ours) == Resolved(ours, None, None, "vqtok")
    assert obtain("photo-tiny") == Resolved(bundled()["photo-tiny"], None, None, "vqtok")
    (tmp_path / "here/photo-tiny").mkdir()
    toy_family.file(tmp_path / "here/photo-tiny/a.ckpt")
    assert obtain("photo-tiny").path == bundled()["photo-tiny"]
    assert read_report(bundled()["photo-tiny"]) == {}


def test_stock_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    load_model(bundled()["photo-tiny"]).to_diffusers().save_pretrained(tmp_path / "stock")
    found = obtain(tmp_path / "stock")
    assert found.family == "diffusers_vq"
    assert obtain(tmp_path / "stock", family="diffusers_vq") == found
    assert obtain(tmp_path / "stock", family="auto") == found
    assert refused(tmp_path / "stock", kind=ConfigError, family="taming") == (
        f"'{tmp_path / 'stock'}' is a tokenizer of the family diffusers_vq, by its config.json; "
        "got family='taming'"
    )
    file = tmp_path / "stock/diffusion_pytorch_model.safetensors"
    assert refused(file) == (
        f"{file} is the weights of a tokenizer: name the folder {tmp_path / 'stock'}"
    )


def test_names_of_nothing(tmp_path: Path) -> None:
    for name in ("./gone.ckpt", "gone.ckpt", "nosuch/gone.ckpt", str(tmp_path / "gone.pt")):
        assert refused(name) == f"there is no file {name}"
    assert refused("./gone") == "there is no folder ./gone"
    assert refused("llamagen-vq1").startswith("there is no tokenizer called 'llamagen-vq1'")
    (tmp_path / "here/empty").mkdir()
    assert refused("empty").startswith("empty is no tokenizer, which holds config.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"revision": "v1"},
            "revision='v1' chooses a commit on the hub; a.ckpt is here",
        ),
        (
            {"variant": "fp16"},
            "variant='fp16' chooses weights in a tokenizer's folder; 'a.ckpt' is a checkpoint of "
            "another project, which has one kind",
        ),
        ({"filename": "x"}, "filename and subfolder are of folders; a.ckpt is a file"),
        ({"subfolder": "x"}, "filename and subfolder are of folders; a.ckpt is a file"),
    ],
)
def test_options_that_a_file_has_not(here: Path, options: Any, message: str) -> None:
    toy_family.file(here / "a.ckpt")
    assert refused("a.ckpt", kind=ConfigError, **options) == message


@pytest.mark.parametrize("option", ["filename", "config", "settings"])
def test_options_that_a_tokenizer_has_not(option: str) -> None:
    value = {"a": 1} if option == "settings" else "x"
    shown = f"--{'set (config=)' if option == 'settings' else f'{option} ({option}=)'}"
    assert refused("photo-tiny", kind=ConfigError, **{option: value}) == (
        f"{shown} is for checkpoints of other projects; 'photo-tiny' is a tokenizer already"
    )


def test_settings_for_what_may_be_anything() -> None:
    assert refused("org/name", kind=ConfigError, settings={"a": 1}) == (
        "--set (config=) is for checkpoints of other projects; 'org/name' is no file or folder "
        "with one, and no org/name with --filename"
    )


def test_families_that_a_tokenizer_has_not() -> None:
    assert obtain("photo-tiny", family="vqtok") == obtain("photo-tiny")
    assert refused("photo-tiny", kind=ConfigError, family="taming") == (
        "'photo-tiny' is a tokenizer of the family vqtok, by its config.json; got family='taming'"
    )


@pytest.mark.parametrize("where", ["config", "settings"])
def test_settings_that_nothing_reads(tmp_path: Path, where: str) -> None:
    """Of the caller alone: whole YAMLs are full of such."""
    file = toy_family.file(tmp_path / "a.ckpt")
    (tmp_path / "own.yaml").write_text("size: 24\nsise: 32\nlr: 1")
    assert refused(file, kind=ConfigError, **{where: {"size": 24, "sise": 32}}) == (
        f"nothing of the family toy reads the setting 'sise' for {file}. Did you mean 'size'? "
        "Known: size."
    )
    assert refused(file, kind=ConfigError, settings={"data": {"size": 24}}) == (
        f"nothing of the family toy reads the setting 'data.size' for {file}. Did you mean 'size'? "
        "Known: size."
    )
    assert converted(tmp_path) == []
    assert obtain(file, config=tmp_path / "own.yaml").family == "toy"


def test_settings_of_an_alias_are_nobodys_mistake(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", {"a.pt": bytes_of(tmp_path)})
    name_it(monkeypatch, repo="org/name", filename="a.pt", settings={"size": 24, "more": 1})
    with pytest.warns(UserWarning):
        assert VisualTokenizer.from_pretrained("toy-1").settings.size == 24


def test_a_config_that_is_none(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    gone, bad = tmp_path / "gone.yaml", tmp_path / "bad.yaml"
    assert refused(file, config=gone) == (
        f"there is no file {gone} with settings, which config names"
    )
    assert refused(file, config=tmp_path) == f"{tmp_path}, which config names, is no file"
    bad.write_text("- size\n- 24")
    assert refused(file, config=bad) == f"{bad} holds a list; settings are an object"
    bad.write_text("{size: 24")
    assert refused(file, config=bad).startswith(f"{bad} is no YAML that can be read: ")


def test_a_family_that_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    monkeypatch.setattr(Source, "prints", None)  # nothing is read for it
    said = refused(file, kind=UnknownNameError, family="toi")
    assert said.startswith("there is no checkpoint family called 'toi'. Did you mean 'toy'? Known:")


# --- the cache ------------------------------------------------------------------------------------


def test_a_conversion_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    found = obtain(file)
    monkeypatch.setattr(Source, "build", None)
    assert obtain(file) == found
    (tmp_path / "b.bin").write_bytes(file.read_bytes())
    assert obtain(tmp_path / "b.bin") == found


def test_a_conversion_is_announced_once(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    said: list[tuple[Path, Path]] = []
    for _ in range(2):
        found = taken(
            find(Request(file)), lambda source, folder: said.append((source.file, folder))
        )
    assert said == [(file, found.path)]


def test_a_file_that_stays_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    os.utime(file, ns=(0, 0))
    found = obtain(file)
    monkeypatch.setattr(prints, "sha256", None)
    assert obtain(file) == found
    monkeypatch.undo()
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    toy_family.register(monkeypatch)
    other = toy_family.file(tmp_path / "b.ckpt", 1)
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(0, 0))
    assert obtain(file) == obtain(other) != found


def test_what_another_conversion_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights, family, settings or version: another folder."""
    file = toy_family.file(tmp_path / "a.ckpt")
    other = toy_family.file(tmp_path / "b.ckpt", 1)
    found = {obtain(file), obtain(other), obtain(file, family="toy")}
    found |= {obtain(file, config={"size": 32}), obtain(file, settings={"size": 24})}
    (tmp_path / "a.yaml").write_text("size: 8")
    found.add(obtain(file))
    (tmp_path / "a.yaml").write_text("size: 12")
    found.add(obtain(file))
    monkeypatch.setattr(conversions, "VERSION", conversions.VERSION + 1)
    found.add(obtain(file))
    assert len(found) == len(converted(tmp_path)) == 8


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt", size=None)
    assert "does not tell size" in refused(file, kind=ConfigError)
    assert converted(tmp_path) == []


def test_the_cache_can_be_read_by_others(tmp_path: Path) -> None:
    mode = obtain(toy_family.file(tmp_path / "a.ckpt")).path.stat().st_mode
    assert stat.S_IMODE(mode) == 0o755


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have begun when the first is done; both get the same whole folder."""
    file = toy_family.file(tmp_path / "a.ckpt")
    both, whole = threading.Barrier(2), Source.build

    def slow(self: Source) -> Conversion:
        both.wait(20)
        return whole(self)

    monkeypatch.setattr(Source, "build", slow)
    found: list[Resolved] = []
    threads = [threading.Thread(target=lambda: found.append(obtain(file))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1]
    assert converted(tmp_path) == [found[0].path]
    VisualTokenizer.from_pretrained(found[0].path)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left on device"):
        obtain(file)
    assert converted(tmp_path) == []


def test_a_report_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "conversion.json").write_text('{"schema": "vqtok-conversion/9"}')
    with pytest.raises(LoadError) as error:
        read_report(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'conversion.json'} has the schema 'vqtok-conversion/9'; this version reads "
        "'vqtok-conversion/1'"
    )


# --- the hub --------------------------------------------------------------------------------------


def test_a_file_on_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    """With the settings beside it, and nothing else of the repository."""
    files = {
        "vq/a.pt": bytes_of(tmp_path, size=None),
        "vq/a.yaml": b"size: 24",
        "vq/b.pt": b"another",
        "README.md": b"card",
    }
    commit = hub.add("org/name", files)
    tok = VisualTokenizer.from_pretrained("org/name", filename="vq/a.pt")
    assert tok.settings.size == 24
    found = obtain("org/name", filename="a.pt", subfolder="vq")
    assert (found.repo, found.commit, found.family) == ("org/name", commit, "toy")
    source = read_report(found.path)["source"]
    assert (source["file"], source["repository"], source["commit"], source["config"]) == (
        "a.pt",
        "org/name",
        commit,
        "a.yaml",
    )
    fetched = {request.split("/resolve/")[1] for request in hub.requests if "/resolve/" in request}
    assert fetched == {f"{commit}/vq/a.pt", f"{commit}/vq/a.yaml"}
    report = (found.path / "README.md").read_text()
    assert f"Converted by vqtok from `a.pt` of org/name at {commit}, a checkpoint" in report


@pytest.mark.parametrize("config", [None, "told.yaml"])
def test_a_processor_on_the_hub(hub: FakeHub, tmp_path: Path, config: str | None) -> None:
    files = {"a.pt": bytes_of(tmp_path, size=None), "told.yaml": b"size: 24", "a.yaml": b"size: 24"}
    hub.add("org/plain", files)
    pixels = {"preprocessor_config.json": b'{"image_mean": [0.5], "image_std": [0.5]}'}
    hub.add("org/name", {**files, **pixels})
    plain = obtain("org/plain", filename="a.pt", config=config)
    found = obtain("org/name", filename="a.pt", config=config)
    note = "the range of pixels is that of preprocessor_config.json, unless settings tell it"
    assert note in read_report(found.path)["notes"]
    assert note not in read_report(plain.path)["notes"]


def test_a_processor_that_changes_makes_another_conversion(tmp_path: Path) -> None:
    file = toy_family.file(tmp_path / "a.ckpt")
    first = obtain(file)
    processor = tmp_path / "preprocessor_config.json"
    processor.write_text('{"image_mean": [0.5], "image_std": [0.5]}')
    second = obtain(file)
    processor.write_text('{"image_mean": [0.5], "image_std": [0.5], "size": 3}')
    assert first.path != second.path == obtain(file).path


def test_a_second_time_without_the_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.add("org/name", {"a.pt": bytes_of(tmp_path)})
    found = obtain("org/name", filename="a.pt")
    monkeypatch.setattr(Source, "build", None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert obtain("org/name", filename="a.pt") == found
    assert obtain("org/name", filename="a.pt", local_files_only=True) == found
    assert hub.requests == []
    assert refused("org/other", filename="a.pt") == (
        "'org/other' is no folder here, not complete in the cache, and not fetched: HF_HUB_OFFLINE "
        "is set"
    )


def test_a_revision_and_a_cache_of_its_own(hub: FakeHub, tmp_path: Path) -> None:
    first = hub.add("org/name", {"a.pt": bytes_of(tmp_path)})
    hub.add("org/name", {"a.pt": bytes_of(tmp_path, seed=1)})
    options = {"filename": "a.pt", "cache_dir": tmp_path / "mine"}
    old = obtain("org/name", revision=first, **options)
    assert (old.commit, old == obtain("org/name", **options)) == (first, False)
    assert not (tmp_path / "hub").exists()


def test_settings_in_the_repository(hub: FakeHub, tmp_path: Path, here: Path) -> None:
    files = {"a.pt": bytes_of(tmp_path, size=None), "deep/x.yaml": b"size: 8", "y.yaml": b"size: 4"}
    hub.add("org/name", files)
    tok = VisualTokenizer.from_pretrained("org/name", filename="a.pt", config="y.yaml")
    assert tok.settings.size == 4
    assert refused("org/name", filename="a.pt", config="z.yaml") == (
        "there is no file 'z.yaml', neither here nor in 'org/name'"
    )
    (here / "y.yaml").write_text("size: 12")
    tok = VisualTokenizer.from_pretrained("org/name", filename="a.pt", config="y.yaml")
    assert tok.settings.size == 12


def test_parts_on_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    """Of a language model only the files that hold its tokenizer."""
    (tmp_path / "llm").mkdir()
    parts(tmp_path / "llm")
    first = hub.add("org/llm", tmp_path / "llm")
    hub.add("org/llm", {"README.md": b"moved"})
    index = "model.safetensors.index.json"
    assert refused("org/llm", filename=index, revision=first).startswith(
        f"{index} of org/llm is of no family that is known. Its keys are a, b."
    )
    fetched = {r.rsplit("/", 1)[1] for r in hub.requests if "/resolve/" in r}
    assert fetched == {index, "model-0.safetensors", "model-2.safetensors"}


def test_files_that_a_repository_has_not(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/name", {"a.pt": b"x", "README.md": b"", "config.json": b'{"model_type": "llama"}'})
    assert refused("org/name", filename="b.pt") == (
        "'org/name' on the hub has no file 'b.pt'; it has a.pt"
    )
    assert refused("org/name").endswith(
        ". To take another project's checkpoint, pass filename, one of: a.pt"
    )
    assert refused("org/name", filename="a.pt", variant="x", kind=ConfigError).startswith(
        "variant='x' chooses weights in a tokenizer's folder; 'org/name' is a checkpoint"
    )


def test_what_is_not_on_the_hub(hub: FakeHub) -> None:
    assert refused("org/name", filename="a.pt") == (
        "there is no folder org/name, and the hub has no repository of that name that this token "
        "may read"
    )


# --- aliases --------------------------------------------------------------------------------------


def name_it(patch: pytest.MonkeyPatch, **entry: Any) -> None:
    """`toy-1` in the table."""
    alias = Alias(**{"name": "toy-1", "family": "toy", "licence": "none", **entry})
    patch.setattr(module, "aliases", lambda: {"toy-1": alias})


def test_an_alias(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its warning comes once, when it is converted."""
    commit = hub.add("org/name", {"a.pt": bytes_of(tmp_path, size=None), "a.yaml": b"size: 8"})
    name_it(monkeypatch, repo="org/name", filename="a.pt", settings={"size": 24})
    with pytest.warns(UserWarning) as warned:
        tok = VisualTokenizer.from_pretrained("toy-1")
    assert [str(one.message) for one in warned] == [
        "'toy-1' names org/name a.pt from its project's documentation; nobody has loaded that file "
        "with this package yet, so look at what it makes"
    ]
    assert tok.settings.size == 24
    found = obtain("toy-1")
    assert (found.repo, found.commit, found.family) == ("org/name", commit, "toy")
    assert read_report(found.path)["source"]["alias"] == "toy-1"
    assert read_report(found.path)["notes"][-1] == str(warned[0].message)


def test_an_alias_that_was_seen(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit and sha256 are what is loaded, or nothing is."""
    data = bytes_of(tmp_path)
    first = hub.add("org/name", {"a.pt": data, "x.json": b'{"size": 8}'})
    hub.add("org/name", {"a.pt": bytes_of(tmp_path, seed=1)})
    (Path.cwd() / "x.json").write_text('{"size": 4}')
    entry = {"repo": "org/name", "filename": "a.pt", "commit": first, "config": "x.json"}
    name_it(monkeypatch, seen=True, sha256=hashlib.sha256(data).hexdigest(), **entry)
    assert obtain("toy-1").commit == first
    assert VisualTokenizer.from_pretrained("toy-1").settings.size == 8
    name_it(monkeypatch, seen=True, sha256="0" * 64, **entry)
    assert refused("toy-1") == (
        f"a.pt of org/name has the sha256 {hashlib.sha256(data).hexdigest()}, and {'0' * 64} is "
        "what 'toy-1' should have; it is another file or damaged"
    )
    name_it(monkeypatch, seen=True, **{**entry, "config": "gone.json"})
    assert refused("toy-1") == (
        "'toy-1' is org/name a.pt, which was not fetched: there is no file 'gone.json', neither "
        "here nor in 'org/name'. Where it was downloaded by other means, its path does in place of "
        "the name"
    )


def test_an_alias_of_a_stock_folder(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model(bundled()["photo-tiny"]).to_diffusers().save_pretrained(tmp_path / "pipe/vqvae")
    hub.add("org/pipe", tmp_path / "pipe")
    name_it(monkeypatch, family="diffusers_vq", repo="org/pipe", subfolder="vqvae")
    assert obtain("toy-1").family == "diffusers_vq"


def test_an_alias_that_is_on_no_hub(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    name_it(monkeypatch, address="https://example.org/a.zip")
    assert refused("toy-1") == (
        "'toy-1' has no file to fetch by name: download it from https://example.org/a.zip, unpack "
        "it if it is an archive, put its YAML beside the file, and pass the file's path"
    )
    toy_family.file(here / "toy-1")
    assert obtain("toy-1").family == "toy"


def test_folders_go_before_aliases(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    name_it(monkeypatch, repo="org/name", filename="a.pt")
    (here / "toy-1").mkdir()
    toy_family.file(here / "toy-1/b.pt")
    found = find(module.Request("toy-1"))
    assert isinstance(found, Source) and found.file == Path("toy-1/b.pt")


def test_the_table() -> None:
    from vqtok.checkpoints import FAMILIES

    for name, alias in aliases().items():
        assert alias.name == name and alias.licence
        assert alias.family in FAMILIES
        assert (alias.repo is None) != (alias.address is None)
        assert alias.repo is None or alias.filename or alias.subfolder
        assert alias.repo in (None, "") or alias.repo.count("/") == 1
        assert not alias.seen or (alias.commit and alias.sha256)
        assert name not in bundled()
    assert aliases()["llamagen-vq16"].place == "FoundationVision/LlamaGen vq_ds16_c2i.pt"
    assert aliases()["taming-f16-1024"].place.startswith("https://heibox.uni-heidelberg.de/")
    assert not any(alias.seen for alias in aliases().values())


def test_nothing_of_the_machine_in_a_conversion(tmp_path: Path) -> None:
    """A folder that is pushed somewhere tells no paths."""
    found = obtain(toy_family.file(tmp_path / "a.ckpt")).path
    for file in found.iterdir():
        assert os.fsencode(tmp_path) not in file.read_bytes(), file.name
    json.loads((found / "conversion.json").read_text())


def test_a_model_without_a_discriminator(tmp_path: Path) -> None:
    made = {k: t for k, t in toy_family.tensors().items() if not k.startswith("judge.")}
    file = save({"model": made, "args": {"size": 16}}, tmp_path / "a.pt")
    assert build(file).discriminator == {}
    assert not (obtain(file).path / "discriminator.safetensors").exists()

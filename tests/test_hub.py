from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import onnx_folders
import pytest
import tiny
from fakehub import FakeHub
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

from vqtok import hub as module
from vqtok.errors import ConfigError, LoadError
from vqtok.hub import Resolved, fetch, push_folder, resolve
from vqtok.tokenizer import VisualTokenizer
from vqtok.zoo import bundled, samples

OURS = b'{"_class_name": "AutoencoderVQ", "model_type": "vqtok"}'
STOCK = b'{"_class_name": "VQModel"}'
CLASSES = "an AutoencoderVQ..., or VQModel"
BARE = {"config.json": OURS, "diffusion_pytorch_model.safetensors": b"weights"}
FULL = {
    **BARE,
    "preprocessor_config.json": b"{}",
    "visual_tokenizer_config.json": b"{}",
    "probe.safetensors": b"probe",
    "README.md": b"card",
}


# What `vqtok export` writes.
GRAPHS_THERE = {
    "config.json": json.dumps(
        {
            "model_type": "vqtok_onnx",
            "files": {"encoder.onnx": {}, "encoder.onnx.data": {}, "decoder.onnx": {}},
        }
    ).encode(),
    "encoder.onnx": b"graph",
    "encoder.onnx.data": b"weights",
    "decoder.onnx": b"graph",
    "parity.json": b"{}",
    **{name: FULL[name] for name in list(FULL)[2:]},
}


def sharded(variant: str = "") -> dict[str, bytes]:
    names = [f"diffusion_pytorch_model{variant}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = json.dumps({"weight_map": {"a": names[0], "b": names[1]}}).encode()
    shards = dict.fromkeys(names, b"shard")
    return {f"diffusion_pytorch_model.safetensors.index{variant}.json": index, **shards}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def found(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(*args: Any, **kwargs: Any) -> str:
    """The message of the LoadError that `resolve` raises."""
    with pytest.raises(LoadError) as error:
        resolve(*args, **kwargs)
    return str(error.value)


@dataclass
class Online:
    """A hub that this process talks to, and the cache that it fills."""

    hub: FakeHub
    cache: Path
    patch: pytest.MonkeyPatch

    def unplug(self) -> None:
        from huggingface_hub import constants

        self.patch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Online]:
    monkeypatch.chdir(tmp_path)
    with FakeHub() as hub:
        hub.patch(monkeypatch, tmp_path / "cache")
        yield Online(hub, tmp_path / "cache", monkeypatch)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tokenizers that come with the package, in a folder of their own."""
    folders = {name: write(tmp_path / "zoo" / name, BARE) for name in ("photo-tiny", "clip-tiny")}
    monkeypatch.setattr(module, "bundled", lambda: folders)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "zoo"


# --- folders and names in the package ---------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "family"),
    [(OURS, "vqtok"), (STOCK, "diffusers_vq"), (b'{"model_type": "vqtok"}', "vqtok")],
)
def test_a_folder_is_itself(tmp_path: Path, config: bytes, family: str) -> None:
    folder = write(tmp_path / "tok", {**BARE, "config.json": config})
    assert resolve(folder) == resolve(str(folder)) == Resolved(folder, None, None, family)


def test_a_subfolder_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "pipe/vqvae", BARE)
    assert resolve(tmp_path / "pipe", subfolder="vqvae").path == tmp_path / "pipe/vqvae"


def test_a_bundled_name(zoo: Path) -> None:
    assert resolve("photo-tiny") == Resolved(zoo / "photo-tiny", None, None, "vqtok")


def test_a_folder_with_a_tokenizer_goes_before_a_bundled_name(zoo: Path) -> None:
    write(Path("photo-tiny"), {"notes.txt": b""})
    assert resolve("photo-tiny").path == zoo / "photo-tiny"
    write(Path("photo-tiny"), BARE)
    assert resolve("photo-tiny").path == Path("photo-tiny")


def test_a_folder_goes_before_the_hub(online: Online) -> None:
    online.hub.add("org/name", FULL)
    write(Path("org/name"), BARE)
    assert resolve("org/name").path == Path("org/name")
    assert online.hub.requests == []


def test_the_package_knows_what_it_carries() -> None:
    assert all((folder / "config.json").is_file() for folder in bundled().values())
    assert "samples" not in bundled()
    assert [path.name for path in samples()] == sorted(path.name for path in samples())
    assert samples() and all(path.suffix == ".jpg" for path in samples())


def test_names_that_mean_nothing(zoo: Path) -> None:
    known = (
        "In the package: clip-tiny, photo-tiny; `vqtok info --list` names other projects' "
        "checkpoints. On the hub, write org/name."
    )
    assert refused("llamagen-vq61") == (
        "there is no tokenizer called 'llamagen-vq61', neither in the package nor as a folder. "
        f"Did you mean 'llamagen-vq16'? {known}"
    )
    assert refused("foto-tiny") == (
        "there is no tokenizer called 'foto-tiny', neither in the package nor as a folder. "
        f"Did you mean 'photo-tiny'? {known}"
    )
    assert refused("") == (
        f"there is no tokenizer called '', neither in the package nor as a folder. {known}"
    )


@pytest.mark.parametrize("name", ["./x", "../x", "x/", "x/y/z", "~nobody-of-that-name/x"])
def test_a_path_that_is_not_there(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(name) == f"there is no folder {name}"


def test_a_path_object_is_never_a_name_on_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(Path("org/name")) == "there is no folder org/name"
    assert refused(tmp_path / "gone") == f"there is no folder {tmp_path}/gone"


def test_what_is_no_folder(tmp_path: Path) -> None:
    file = write(tmp_path, BARE) / "config.json"
    assert refused(file) == (
        f"{file} is a file; a tokenizer is the folder that holds its config.json"
    )
    assert refused("https://huggingface.co/org/name") == (
        "https://huggingface.co/org/name is an address; a tokenizer on the hub is called org/name"
    )
    assert refused(tmp_path, subfolder="a/b") == f"there is no folder {tmp_path}/a/b"


@pytest.mark.parametrize("subfolder", ["../x", "/x", "a/../../x"])
def test_a_subfolder_lies_inside(tmp_path: Path, subfolder: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(write(tmp_path, BARE), subfolder=subfolder)
    assert str(error.value) == (
        f"subfolder is a path inside a tokenizer's folder or repository; got {subfolder!r}"
    )


def test_a_folder_has_no_revisions(zoo: Path) -> None:
    with pytest.raises(ConfigError) as error:
        resolve("photo-tiny", revision="v1")
    assert str(error.value) == (
        "revision='v1' chooses a commit on the hub, but 'photo-tiny' is the folder "
        f"{zoo}/photo-tiny"
    )


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    start = "is no tokenizer, which holds config.json and diffusion_pytorch_model.safetensors"
    assert refused(tmp_path) == f"{tmp_path} {start}; found: nothing"
    write(tmp_path, {f"{n}.txt": b"" for n in range(10)})
    write(tmp_path, {"unet/config.json": b"", "vqvae/config.json": b""})
    assert refused(tmp_path) == (
        f"{tmp_path} {start}; found: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt and 2 "
        "more. Pass one of these as subfolder: unet, vqvae"
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"_class_name": "UNet2DModel"}, "_class_name 'UNet2DModel'"),
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"_class_name": ["A"], "model_type": "b"}, "_class_name ['A'], model_type 'b'"),
        ({}, "no model"),
        ([1], "no model"),
    ],
)
def test_a_config_of_something_else(tmp_path: Path, config: Any, said: str) -> None:
    write(tmp_path, {**BARE, "config.json": json.dumps(config).encode()})
    assert refused(tmp_path) == (
        f"{tmp_path} is no tokenizer: its config.json is that of {said}; a tokenizer's "
        f"names {CLASSES}"
    )


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderKLWan", "AsymmetricAutoencoderKL"])
def test_a_continuous_autoencoder(tmp_path: Path, kind: str) -> None:
    write(tmp_path, {**BARE, "config.json": json.dumps({"_class_name": kind}).encode()})
    assert refused(tmp_path) == (
        f"{tmp_path} holds {kind}, a continuous autoencoder: its latents are a mean and a "
        "variance, and it has no codes to make a tokenizer of"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_broken_config(tmp_path: Path, data: bytes, reason: str) -> None:
    write(tmp_path, {**BARE, "config.json": data})
    assert refused(tmp_path) == f"{tmp_path}/config.json is not JSON: {reason}"


def test_weights_of_a_variant_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, {**BARE, **sharded(".fp16"), "probe.safetensors": b""})
    assert resolve(tmp_path, variant="fp16").path == tmp_path
    assert refused(tmp_path, variant="bf16") == (
        f"{tmp_path} lacks diffusion_pytorch_model.bf16.safetensors, the weights of "
        "variant='bf16'; it has those of variant=None, variant='fp16'"
    )


def test_no_weights_at_all(tmp_path: Path) -> None:
    write(tmp_path, {"config.json": OURS, "diffusion_pytorch_model.bin": b""})
    assert refused(tmp_path) == (
        f"{tmp_path} lacks diffusion_pytorch_model.safetensors, the weights of variant=None; "
        "found: config.json, diffusion_pytorch_model.bin"
    )


def test_a_shard_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, {"config.json": OURS, **sharded()})
    assert resolve(tmp_path).path == tmp_path
    (tmp_path / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    assert refused(tmp_path) == (
        f"{tmp_path} lacks diffusion_pytorch_model-00002-of-00002.safetensors, which "
        "diffusion_pytorch_model.safetensors.index.json names"
    )


def test_a_broken_index(tmp_path: Path) -> None:
    index = "diffusion_pytorch_model.safetensors.index.json"
    write(tmp_path, {"config.json": OURS, index: b"{}"})
    assert (
        refused(tmp_path)
        == f"{tmp_path}/{index} is not an index of weights: KeyError: 'weight_map'"
    )


# --- from a hub ---------------------------------------------------------------------------------


def test_a_name_on_the_hub(online: Online) -> None:
    commit = online.hub.add("org/name", FULL)
    got = resolve("org/name")
    assert (got.repo, got.commit, got.family) == ("org/name", commit, "vqtok")
    assert found(got.path) == set(FULL)
    assert got.path.is_relative_to(online.cache)


def test_it_takes_what_a_tokenizer_is_made_of_and_nothing_else(online: Online) -> None:
    other = {
        "diffusion_pytorch_model.fp16.safetensors": b"",
        "diffusion_pytorch_model.safetensors.index.fp16.json": b"",
        "diffusion_pytorch_model.bin": b"",
        "model.ckpt": b"",
        "picture.png": b"",
        "onnx/encoder.onnx": b"",
        "onnx/config.json": b"",
        "unet/diffusion_pytorch_model.safetensors": b"",
    }
    online.hub.add("org/name", {**FULL, **other})
    assert found(resolve("org/name").path) == set(FULL)


def test_the_discriminator_that_training_goes_on_from(online: Online, tmp_path: Path) -> None:
    """It goes up and comes down with its tokenizer, and does not stay beside another one."""
    both = {**BARE, "discriminator.safetensors": b"judge"}
    push_folder(write(tmp_path / "one", both), "org/name")
    assert (resolve("org/name").path / "discriminator.safetensors").read_bytes() == b"judge"
    push_folder(write(tmp_path / "other", BARE), "org/name")
    assert set(online.hub.files("org/name") or {}) == {*BARE, ".gitattributes"}


@pytest.mark.parametrize("terminal", [False, True])
def test_no_noise_on_the_way(
    online: Online, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """Bars are for weights, on a terminal; of what is not there one sentence tells."""
    online.hub.add("org/name", FULL)
    said, bars = list[str](), list[bool]()
    plain = huggingface_hub.snapshot_download

    def watched(*given: Any, **named: Any) -> Any:
        bars.append(not are_progress_bars_disabled())
        return plain(*given, **named)

    logger = logging.getLogger("huggingface_hub._snapshot_download")
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: said.append(record.getMessage()))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", watched)
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal)
    logger.addHandler(handler)
    enable_progress_bars()
    try:
        resolve("org/name")
        with pytest.raises(LoadError):
            fetch("org/name", "gone.pt")
        assert not are_progress_bars_disabled()
    finally:
        logger.removeHandler(handler)
    assert (said, bars) == ([], [False, terminal, terminal])


def test_a_variant_on_the_hub(online: Online) -> None:
    half = {"config.json": OURS, "diffusion_pytorch_model.fp16.safetensors": b""}
    online.hub.add("org/name", {**BARE, **half})
    assert found(resolve("org/name", variant="fp16").path) == set(half)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_on_the_hub(online: Online, variant: str | None) -> None:
    online.hub.add("org/name", {"config.json": OURS, **sharded(), **sharded(".fp16")})
    wanted = {"config.json", *sharded(f".{variant}" if variant else "")}
    assert found(resolve("org/name", variant=variant).path) == wanted


def test_a_subfolder_on_the_hub(online: Online) -> None:
    inner = {f"a[1]/vqvae/{name}": data for name, data in FULL.items()}
    deeper = {f"a[1]/vqvae/old/{name}": data for name, data in FULL.items()}
    online.hub.add("org/name", {**FULL, **inner, **deeper, "a1/vqvae/README.md": b""})
    got = resolve("org/name", subfolder="a[1]/vqvae")
    assert found(got.path) == set(FULL)
    assert found(got.path.parents[1]) == set(inner)


def test_a_revision_is_the_commit_that_it_names(online: Online) -> None:
    first = online.hub.add("org/name", {**BARE, "README.md": b"first"})
    second = online.hub.add("org/name", {**BARE, "README.md": b"second"}, branch="next")
    for revision, commit, card in [
        (None, first, b"first"),
        ("next", second, b"second"),
        (second, second, b"second"),
        (first, first, b"first"),
    ]:
        got = resolve("org/name", revision)
        assert (got.commit, (got.path / "README.md").read_bytes()) == (commit, card)


def test_a_cache_of_its_own(online: Online, tmp_path: Path) -> None:
    online.hub.add("org/name", FULL)
    assert resolve("org/name", cache_dir=tmp_path / "mine").path.is_relative_to(tmp_path / "mine")
    assert not online.cache.exists()


def test_a_pinned_revision_is_read_from_the_cache(online: Online) -> None:
    commit = online.hub.add("org/name", FULL)
    path = resolve("org/name", commit).path
    online.hub.requests.clear()
    assert resolve("org/name", commit, local_files_only=True).path == path
    assert online.hub.requests == []
    online.unplug()
    assert resolve("org/name", commit).path == path


def test_a_branch_is_read_from_the_cache_where_there_is_no_hub(online: Online) -> None:
    commit = online.hub.add("org/name", FULL)
    path = resolve("org/name").path
    online.unplug()
    assert resolve("org/name") == Resolved(path, "org/name", commit, "vqtok")


# --- what a hub refuses -------------------------------------------------------------------------


def test_no_such_repository(online: Online) -> None:
    assert refused("org/nmae") == (
        "there is no folder org/nmae, and the hub has no repository of that name that this token "
        "may read"
    )


def test_a_gated_repository(online: Online) -> None:
    online.hub.add("org/name", FULL, gated=True)
    assert refused("org/name") == (
        "'org/name' is gated: accept its terms on its page, then pass a token of that account"
    )


def test_no_such_revision(online: Online) -> None:
    online.hub.add("org/name", FULL)
    assert refused("org/name", "v2") == "'org/name' has no branch, tag or commit 'v2'"


def test_a_name_that_the_client_refuses(online: Online) -> None:
    assert refused("org/a--b") == (
        "'org/a--b' cannot be fetched: HFValidationError: Cannot have -- or .. in repo_id: "
        "'org/a--b'."
    )


def test_not_in_the_cache(online: Online) -> None:
    start = "'org/name' is no folder here, not complete in the cache, and not fetched:"
    assert refused("org/name", local_files_only=True) == f"{start} local_files_only=True"
    online.unplug()
    assert refused("org/name") == f"{start} HF_HUB_OFFLINE is set"


def test_no_hub(online: Online) -> None:
    url = online.hub.url
    online.hub.__exit__(None, None, None)
    assert refused("org/name") == (
        "'org/name' is no folder here, not complete in the cache, and not fetched: the hub at "
        f"{url} does not answer"
    )


def test_a_hub_that_is_down(online: Online) -> None:
    online.hub.broken = True
    assert refused("org/name") == (
        "'org/name' is no folder here, not complete in the cache, and not fetched: the hub "
        "answered 503 (down for a while)"
    )


def test_another_variant_is_not_in_the_cache(online: Online) -> None:
    from huggingface_hub import errors

    half = {"config.json": OURS, "diffusion_pytorch_model.fp16.safetensors": b""}
    commit = online.hub.add("org/name", {**BARE, **half})
    resolve("org/name")
    message = refused("org/name", commit, variant="fp16", local_files_only=True)
    if hasattr(errors, "IncompleteSnapshotError"):  # older clients do not notice
        assert message == (
            f"'org/name' at {commit!r} is no folder here, not complete in the cache, and not "
            "fetched: local_files_only=True"
        )
    else:
        assert message == (
            f"the copy of 'org/name' at {commit!r} in the cache lacks "
            "diffusion_pytorch_model.fp16.safetensors, the weights of variant='fp16'; it has those "
            "of variant=None"
        )


def test_a_repository_that_is_no_tokenizer(online: Online) -> None:
    online.hub.add("org/name", {"README.md": b"", "vqvae/config.json": OURS})
    assert refused("org/name") == (
        "'org/name' on the hub is no tokenizer, which holds config.json and "
        "diffusion_pytorch_model.safetensors; found: README.md. Pass one of these as subfolder: "
        "vqvae"
    )


def test_the_weights_of_something_else_are_not_fetched(online: Online) -> None:
    online.hub.add("org/name", {**FULL, "config.json": b'{"model_type": "llama"}'})
    assert refused("org/name", "main") == (
        "'org/name' at 'main' on the hub is no tokenizer: its config.json is that of model_type "
        f"'llama'; a tokenizer's names {CLASSES}"
    )
    assert not any("safetensors" in request for request in online.hub.requests)


def test_a_variant_that_the_hub_lacks(online: Online) -> None:
    files = {f"vqvae/{name}": data for name, data in {**BARE, **sharded(".fp16")}.items()}
    online.hub.add("org/name", files)
    assert refused("org/name", subfolder="vqvae", variant="bf16") == (
        "'org/name' on the hub, in vqvae, lacks diffusion_pytorch_model.bf16.safetensors, the "
        "weights of variant='bf16'; it has those of variant=None, variant='fp16'"
    )


def test_a_repository_of_pickles(online: Online) -> None:
    online.hub.add("org/name", {"config.json": STOCK, "diffusion_pytorch_model.bin": b""})
    assert refused("org/name") == (
        "'org/name' on the hub lacks diffusion_pytorch_model.safetensors, the weights of "
        "variant=None; found: config.json, diffusion_pytorch_model.bin"
    )


def test_errors_keep_their_cause(online: Online) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    with pytest.raises(LoadError) as error:
        resolve("org/name")
    assert isinstance(error.value.__cause__, RepositoryNotFoundError)


# --- to a hub -----------------------------------------------------------------------------------


def test_a_folder_goes_to_the_hub_and_comes_back(online: Online, tmp_path: Path) -> None:
    folder = write(tmp_path / "tok", {**FULL, **sharded(".fp16"), "onnx/encoder.onnx": b"graph"})
    address = push_folder(folder, "org/name", private=True, token="t", commit_message="first")
    assert address == f"{online.hub.url}/org/name"
    back = resolve("org/name").path
    assert all((back / name).read_bytes() == data for name, data in FULL.items())
    assert set(online.hub.files("org/name") or {}) == found(folder) | {".gitattributes"}


def test_the_card_there_names_the_repository(online: Online, tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    tok.push_to_hub("org/name", token="t")
    card = (online.hub.files("org/name") or {})["README.md"].decode()
    assert 'tok = VisualTokenizer.from_pretrained("org/name")\n' in card
    tok.save_pretrained(tmp_path / "here")
    here = 'tok = VisualTokenizer.from_pretrained("path/to/this/folder")\n'
    assert here in (tmp_path / "here/README.md").read_text()


def test_older_weights_do_not_stay_beside_new_ones(online: Online, tmp_path: Path) -> None:
    half = {"diffusion_pytorch_model.fp16.safetensors": b"", "diffusion_pytorch_model.bin": b""}
    half |= {"probe.fp16.safetensors": b"", "conversion.json": b"{}", "parity.json": b"{}"}
    online.hub.add("org/name", {**FULL, **half, **sharded(), "notes.txt": b"mine"})
    push_folder(write(tmp_path / "tok", BARE), "org/name")
    kept = {"preprocessor_config.json", "visual_tokenizer_config.json", "README.md", "notes.txt"}
    assert set(online.hub.files("org/name") or {}) == set(BARE) | kept


def test_a_folder_goes_to_a_branch(online: Online, tmp_path: Path) -> None:
    online.hub.add("org/name", {"README.md": b"main"})
    push_folder(write(tmp_path / "tok", BARE), "org/name", revision="v2")
    assert set(online.hub.files("org/name") or {}) == {"README.md"}
    assert set(online.hub.files("org/name", "v2") or {}) == {"README.md", *BARE}


def test_only_tokenizers_are_uploaded(online: Online, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        push_folder(tmp_path, "org/name")
    assert str(error.value) == (
        f"{tmp_path} is no tokenizer, which holds config.json and "
        "diffusion_pytorch_model.safetensors; found: nothing"
    )
    assert online.hub.requests == []


def test_graphs_on_the_hub(online: Online) -> None:
    commit = online.hub.add("org/name", {**GRAPHS_THERE, "other.onnx": b"", "x/encoder.onnx": b""})
    there = resolve("org/name")
    assert there == Resolved(there.path, "org/name", commit, "onnx")
    assert found(there.path) == set(GRAPHS_THERE)
    online.unplug()
    assert resolve("org/name") == there


def test_graphs_that_are_not_whole(online: Online, tmp_path: Path) -> None:
    less = {name: data for name, data in GRAPHS_THERE.items() if name != "encoder.onnx.data"}
    online.hub.add("org/name", less)
    assert refused("org/name") == (
        "'org/name' on the hub lacks encoder.onnx.data, which its config.json names"
    )
    here = write(tmp_path / "here", less)
    assert refused(here) == f"{here} lacks encoder.onnx.data, which its config.json names"
    with pytest.raises(ConfigError) as error:
        resolve(write(here, GRAPHS_THERE), variant="fp16")
    assert str(error.value) == (
        f"variant='fp16' chooses weights of torch; {here} holds ONNX graphs, of which there is one "
        "kind"
    )


def test_graphs_that_name_other_places(online: Online) -> None:
    online.hub.add(
        "org/name", {"config.json": GRAPHS_THERE["config.json"].replace(b"dec", b"/dec")}
    )
    assert refused("org/name").endswith(
        "config.json names '/decoder.onnx', which is no file of its own folder"
    )


def test_graphs_go_to_the_hub_and_come_back(online: Online, tmp_path: Path) -> None:
    place = onnx_folders.folder(tmp_path / "graphs", settings=onnx_folders.NATIVE)
    (place / "README.md").write_text('from_pretrained("path/to/this/folder")', encoding="utf-8")
    old = {**FULL, "picture_encoder.onnx": b"old", "parity.json": b"{}", "x/encoder.onnx": b"kept"}
    online.hub.add("org/name", old)
    tok = VisualTokenizer.from_pretrained(place, device="cpu")
    tok.push_to_hub("org/name")
    assert set(online.hub.files("org/name") or ()) == {
        "config.json",
        "encoder.onnx",
        "decoder.onnx",
        "x/encoder.onnx",
        *list(FULL)[2:],
    }
    for backend in ("auto", "onnx"):
        back = VisualTokenizer.from_pretrained("org/name", device="cpu", backend=backend)
        assert back.fingerprint == tok.fingerprint
        assert back.codec.verify().verdict == "exact"
        assert '"org/name"' in (back.codec.folder / "README.md").read_text(encoding="utf-8")


def test_an_upload_that_the_hub_refuses(online: Online, tmp_path: Path) -> None:
    folder = write(tmp_path / "tok", BARE)
    with pytest.raises(LoadError) as error:
        push_folder(folder, "forbidden/name")
    assert str(error.value) == (
        f"{folder} was not uploaded to 'forbidden/name': the hub answered 403 (no write access "
        "here)"
    )


# --- a process of its own -----------------------------------------------------------------------


def test_it_listens_to_the_variables_of_the_hub(tmp_path: Path) -> None:
    code = (
        "import sys; from vqtok.hub import resolve\n"
        "heavy = {'huggingface_hub', 'torch', 'diffusers', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), resolve('org/name').commit)"
    )
    with FakeHub() as hub:
        commit = hub.add("org/name", FULL)
        environment = hub.environment(tmp_path)
        outputs = [
            subprocess.run(
                [sys.executable, "-W", "error", "-c", code],
                env={**environment, "HF_HUB_OFFLINE": offline},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            for offline in ("0", "1")
        ]
    assert outputs == [f"[] {commit}\n"] * 2

"""A run that goes on from a tokenizer whose discriminator was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_run
import tiny
import torch
import yaml
from checkpoints.samples import taming
from safetensors.torch import save_file

from vqtok import VisualTokenizer, fingerprint
from vqtok.autoencoders import AutoencoderVQ
from vqtok.checkpoints.patchgan import weights
from vqtok.errors import ConfigError
from vqtok.training import checkpoints
from vqtok.training.discriminators.layers import Patches
from vqtok.training.kept import Kept, keep
from vqtok.training.launch import make_accelerator
from vqtok.training.loop import train
from vqtok.training.outlook import outlook
from vqtok.training.parts import make_discriminator, make_model
from vqtok.training.settings import Discriminator, Settings
from vqtok.training.step import Step

pytestmark = pytest.mark.filterwarnings("ignore:.*dataloader:UserWarning")

OWN = {"channels": 8, "layers": 2, "norm": "batch"}


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """taming's discriminator, in a folder by itself."""
    save_file(weights(taming.judge()), tmp_path / "discriminator.safetensors")
    return Kept("start", tmp_path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQGAN as taming-transformers leaves it, with its YAML."""
    folder = tmp_path_factory.mktemp("taming")
    tensors, settings = taming.sample()
    torch.save({"state_dict": tensors, "global_step": 1}, folder / "last.ckpt")
    (folder / "last.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "last.ckpt"


@pytest.fixture
def settings(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two steps from it, the discriminator's being the second."""
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    data = small_run.pictures(tmp_path / "pictures.npy", count=8)
    given: dict[str, Any] = {
        "init": str(checkpoint),
        "data": {"path": str(data), "size": 16, "hold_out": 2, "workers": 0},
        "discriminator": {"start": 0, "optimizer": {"lr": 1e-3}},
        "batch_size": 4,
        "steps": 2,
    }
    return Settings.model_validate(given)


def test_without_args_it_is_gone_on_from(kept: Kept) -> None:
    wanted = Discriminator()
    network = make_discriminator(wanted, 3, kept)
    assert kept.own_args == OWN
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, kept.weights[key])
    assert kept.said(wanted) == "the discriminator goes on from the one that start keeps"
    assert kept.fits(Discriminator(args=OWN))


@pytest.mark.parametrize(
    "wanted",
    [
        Discriminator(args={"channels": 8, "layers": 2}),
        Discriminator(args={"layers": 1, "norm": "batch"}),
        Discriminator(name="stylegan", args={"size": 16, "most": 8}),
    ],
)
def test_another_one_is_new(kept: Kept, wanted: Discriminator) -> None:
    network = make_discriminator(wanted, 3, kept)
    assert network.state_dict().keys() != kept.weights.keys() or not kept.fits(wanted)
    named = "" if wanted.name == "patchgan" else "with discriminator.name=patchgan and "
    assert kept.said(wanted) == (
        "the discriminator is new: start keeps a patchgan with channels=8, layers=2, norm=batch, "
        f"and would go on from it {named}without discriminator.args, or with these"
    )


def test_what_is_not_said_is_as_it_is_by_default(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not kept.fits(Discriminator(args={"channels": 8}))
    monkeypatch.setattr(Patches.__init__, "__defaults__", (3, 64, 2, "batch"))
    assert kept.fits(Discriminator(args={"channels": 8}))


def test_a_tokenizer_that_keeps_none(tmp_path: Path) -> None:
    nothing = Kept("start", tmp_path)
    assert not nothing.fits(Discriminator())
    assert nothing.args(Discriminator()) == {}
    assert nothing.said(Discriminator()) == "the discriminator is new: start keeps none"


def test_one_for_other_pixels(kept: Kept) -> None:
    with pytest.raises(ConfigError) as error:
        make_discriminator(Discriminator(), 4, kept)
    assert str(error.value).startswith(
        f"{kept.file} is no discriminator for these pixels: Error(s) in loading state_dict for "
        "PatchGAN: size mismatch for blocks.0.0.weight"
    )


def test_a_file_of_something_else(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "discriminator.safetensors")
    strange = Kept("start", tmp_path)
    with pytest.raises(ConfigError) as error:
        strange.said(Discriminator(args={"layers": 1}))
    assert str(error.value) == f"{strange.file} holds no discriminator of this package"


@pytest.mark.parametrize("header", ["{", "{}", "[]", '{"name": "patchgan", "args": 1}'])
def test_a_header_of_something_else(header: str, tmp_path: Path) -> None:
    file = tmp_path / "discriminator.safetensors"
    save_file(weights(taming.judge()), file, metadata={"discriminator": header})
    with pytest.raises(ConfigError) as error:
        Kept("start", tmp_path).fits(Discriminator())
    assert str(error.value) == f"{file} holds no discriminator of this package"


@pytest.mark.parametrize(
    ("name", "args", "whole"),
    [
        ("patchgan", {"layers": 1}, {"channels": 64, "layers": 1, "norm": "group"}),
        ("patchgan3d", {"channels": 4}, {"channels": 4, "layers": 3, "norm": "group"}),
        ("stylegan", {"size": 16, "most": 8}, {"size": 16, "multiplier": 2, "most": 8}),
    ],
)
def test_every_kind_is_kept(
    name: str, args: dict[str, Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    network = make_discriminator(Discriminator(name=name, args=args), 4)
    keep(network, name, args, tmp_path)
    found = Kept("start", tmp_path)
    assert (found.name, found.own_args) == (name, whole)
    for wanted in (Discriminator(name=name), Discriminator(name=name, args=args)):
        again = make_discriminator(wanted, 4, found).state_dict()
        assert all(torch.equal(again[key], was) for key, was in network.state_dict().items())
    assert not found.fits(Discriminator(name=name, args={**args, next(iter(args)): 32}))


def test_a_step_begins_with_it(settings: Settings, tmp_path: Path) -> None:
    step = Step(make_accelerator(settings, tmp_path), settings, make_model(settings))
    assert step.judge is not None
    expected = weights(taming.judge())
    own = step.judge.network.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], tensor) for key, tensor in expected.items())


def test_a_run_says_what_became_of_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"the discriminator goes on from the one that {settings.init} keeps"
    assert said in outlook(settings).facts
    train(settings, tmp_path / "run")
    assert said in " ".join(capsys.readouterr().err.split())


def trained(init: Path, folder: Path, **judge: Any) -> Path:
    """The tokenizer after two steps from `init`."""
    data = small_run.pictures(folder.parent / "pictures.npy", count=8)
    given: dict[str, Any] = {
        "init": str(init),
        "data": {"path": str(data), "size": 16, "hold_out": 2, "workers": 0},
        "discriminator": {"start": 0, "optimizer": {"lr": 1e-3}, **judge},
        "batch_size": 4,
        "steps": 2,
    }
    return train(Settings.model_validate(given), folder)


def judged(tokenizer: Path) -> dict[str, torch.Tensor]:
    return dict(Kept("", tokenizer).weights)


def test_one_run_after_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run keeps its discriminator beside its tokenizer, and the next one goes on from it."""
    tiny.tokenizer().save_pretrained(tmp_path / "start")
    first = trained(tmp_path / "start", tmp_path / "first", args={"channels": 8, "layers": 1})
    newest = max((tmp_path / "first" / "checkpoints").glob("*.pt"))
    state = checkpoints.read(newest)["run"]["judge"]["network"]
    assert judged(first).keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in judged(first).items())
    capsys.readouterr()
    second = trained(tmp_path / "first", tmp_path / "second")
    said = f"the discriminator goes on from the one that {tmp_path / 'first'} keeps"
    assert said in " ".join(capsys.readouterr().err.split())
    assert Kept("", second).own_args == {"channels": 8, "layers": 1, "norm": "group"}
    before, after = judged(first), judged(second)
    far = max((before[key] - after[key]).abs().max().item() for key in before)
    assert 0 < far < 1e-2  # two steps of Adam
    for folder in (first, second):
        tok = VisualTokenizer.from_pretrained(folder)
        assert tok.fingerprint == fingerprint.of_folder(folder, tok.settings)
        AutoencoderVQ.from_pretrained(folder)


def test_one_that_has_learnt_nothing_is_not_kept(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path / "start")
    small = {"channels": 8, "layers": 1}
    after = trained(tmp_path / "start", tmp_path / "run", args=small, start=2)
    assert judged(after) == {}

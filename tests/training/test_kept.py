"""A run that goes on from a tokenizer whose discriminator was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_run
import torch
import yaml
from checkpoints.samples import taming
from safetensors.torch import save_file

from vqtok.checkpoints.patchgan import weights
from vqtok.errors import ConfigError
from vqtok.training.kept import Kept
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
    assert kept.said(wanted) == (
        "the discriminator is new: start keeps a patchgan with channels=8, layers=2, norm=batch, "
        "and would go on from it without discriminator.args, or with these"
    )


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

from __future__ import annotations

from pathlib import Path

import pytest
import small_run
import torch
from checkpoints import toy_family

from vqtok.errors import ConfigError, UnknownNameError
from vqtok.training.parts import make_discriminator, make_model, make_optimizer
from vqtok.training.settings import Discriminator, Optimizer, Settings


def test_a_model_has_its_settings() -> None:
    model = make_model(small_run.settings("unread"))
    assert model.quantize.codebook_size == 32
    assert model.quantize.decay == 0.9
    assert model.quantize.estimator.name == "rotation"


def test_settings_that_it_has_not() -> None:
    network = {**small_run.BASE["network"], "chanels": 3}
    with pytest.raises(ConfigError) as error:
        make_model(small_run.settings("unread", network=network))
    assert str(error.value).startswith("the architecture 'cnn' has no setting 'chanels'. ")
    codebook = {**small_run.BASE["codebook"], "dacay": 0.5}
    with pytest.raises(ConfigError) as error:
        make_model(small_run.settings("unread", codebook=codebook))
    assert str(error.value).startswith(
        "the quantizer 'vector' has no setting 'dacay'. Did you mean 'decay'? "
    )


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="there is no discriminator called 'patchgun'"):
        make_discriminator(Discriminator(name="patchgun"), 3)
    with pytest.raises(ConfigError, match="the discriminator 'patchgan' has no setting 'depth'"):
        make_discriminator(Discriminator(args={"depth": 2}), 3)


def test_freezing_needs_something_to_keep() -> None:
    with pytest.raises(ConfigError) as error:
        make_model(small_run.settings("unread", freeze=["encoder", "codebook"]))
    assert str(error.value) == (
        "encoder and codebook would stay as they were drawn: freeze goes with init, a tokenizer to "
        "go on from"
    )


def test_an_optimizer_takes_what_is_trained() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    optimizer = make_optimizer(
        layer.parameters(), Optimizer(name="adam", lr=0.1, betas=[0.5, 0.9], eps=1e-4)
    )
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 1
    assert (group["lr"], group["betas"], group["eps"]) == (0.1, (0.5, 0.9), 1e-4)


def test_a_model_goes_on_from_another_projects_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings of its own training, but for an estimator that was asked for."""
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    toy_family.register(monkeypatch)
    file = toy_family.file(tmp_path / "a.ckpt")
    data = {"size": 16, "workers": 0}
    for estimator, expected in ((None, "rotation"), ("ste", "ste")):
        settings = Settings.model_validate(
            {"init": str(file), "data": data, "estimator": estimator}
        )
        model = make_model(settings)
        table = toy_family.model().quantize.embedding.weight
        assert torch.equal(model.quantize.embedding.weight, table)
        assert model.quantize.estimator.name == expected

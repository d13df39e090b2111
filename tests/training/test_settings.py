"""Settings: which can be, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest

from vqtok.errors import ConfigError
from vqtok.training.presets import load_settings, parse_choice
from vqtok.training.settings import Data, Optimizer, Settings
from vqtok.training.wording import check_settings

TOP = ", ".join(sorted(Settings.model_fields))
OPTIMIZER = ", ".join(sorted(f"optimizer.{name}" for name in Optimizer.model_fields))
DATA = ", ".join(sorted(f"data.{name}" for name in Data.model_fields))
# What is set on top of the preset cifar10, and what is said behind the option's own words.
WRONG = [
    (
        "optimizer.lrr=1",
        f"there is no setting 'optimizer.lrr'. Did you mean 'optimizer.lr'? Known: {OPTIMIZER}.",
    ),
    ("optimiser.lr=1", f"there is no setting 'optimiser'. Did you mean 'optimizer'? Known: {TOP}."),
    (
        "data.siz=64",
        f"there is no setting 'data.siz'. Did you mean 'data.size'? Known: {DATA}.",
    ),
    (
        "lr=1",
        "there is no setting 'lr'. Did you mean 'discriminator.optimizer.lr' or 'optimizer.lr'?",
    ),
    ("dead_codes=off", "there is no setting 'dead_codes'. Did you mean 'codebook.dead_codes'?"),
    ("zzz=1", f"there is no setting 'zzz'. Known: {TOP}."),
    ("optimizer.lr=fast", "optimizer.lr is a number above 0; got 'fast'"),
    ("optimizer.lr=-1", "optimizer.lr is a number above 0; got -1"),
    ("optimizer.betas=[0.9]", "optimizer.betas is a list of 2 numbers; got [0.9]"),
    ("optimizer.betas=[a, 0.9]", "optimizer.betas is a list of 2 numbers; got ['a', 0.9]"),
    ("optimizer.clip_norm=0", "optimizer.clip_norm is a number above 0 or null; got 0"),
    ("optimizer.end=1.5", "optimizer.end is a number of at least 0 and of at most 1; got 1.5"),
    ("optimizer={lr: fast}", "optimizer.lr is a number above 0; got 'fast'"),
    ("optimizer=3", "optimizer is a map of settings; got 3"),
    ("steps=0", "steps is a whole number of at least 1; got 0"),
    ("steps=1e5", "steps is a whole number of at least 1; got 100000.0"),
    ("steps=true", "steps is a whole number of at least 1; got true"),
    ("batch_size='32'", "batch_size is a whole number of at least 1; got '32'"),
    ("compile=off", "compile is true or false; got 'off'"),
    ("name=", "name is text; got null"),
    ("precision=fp8", "precision is 'auto', 'fp32', 'tf32' or 'bf16'; got 'fp8'"),
    ("data.path=3", "data.path is text or a list of texts or null; got 3"),
    ("data.path=[a, 3]", "data.path is text or a list of texts or null; got ['a', 3]"),
    ("freeze=[tail]", "freeze is a list of 'encoder', 'codebook' or 'decoder'; got ['tail']"),
    ("loss.pixel.l1=much", "loss.pixel.l1 is a number; got 'much'"),
    ("discriminator=patchgan", "discriminator is a map of settings; got 'patchgan'"),
    ("discriminator.start=soon", "discriminator.start is a whole number of at least 0; got 'soon'"),
    ("anneal.temperature.start=1", "anneal.temperature.end is missing; it is a number"),
    ("anneal.temperature=1", "anneal.temperature is a map of settings; got 1"),
    ("codebook=512", "codebook is a map of settings; got 512"),
    ("codebook.size=many", "codebook.size is a whole number of at least 2; got 'many'"),
    ("codebook.size=1", "codebook.size is a whole number of at least 2; got 1"),
    ("codebook.dim=true", "codebook.dim is a whole number of at least 1; got True"),
    ("name.of.it=x", "name is text; got {'of': {'it': 'x'}}"),
]


@pytest.mark.parametrize(("option", "expected"), WRONG)
def test_settings_that_cannot_be(option: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings("cifar10", [parse_choice(option)])
    assert str(error.value) == f"--set {option}: {expected}"


def test_a_file_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("optimizer:\n  lr: high\nsteps: 10\n")
    with pytest.raises(ConfigError) as error:
        load_settings(file, [parse_choice("steps=20")])
    assert str(error.value) == f"{file}: optimizer.lr is a number above 0; got 'high'"


def test_each_mistake_has_its_line() -> None:
    choices = [parse_choice(text) for text in ("steps=0", "optimiser=1", "data.path=3")]
    with pytest.raises(ConfigError) as error:
        load_settings("smoke", choices)
    assert str(error.value).splitlines() == [
        "--set data.path=3: data.path is text or a list of texts or null; got 3.",
        "--set steps=0: steps is a whole number of at least 1; got 0.",
        "--set optimiser=1: there is no setting 'optimiser'. Did you mean 'optimizer'? "
        f"Known: {TOP}.",
    ]


def test_what_a_tokenizer_brings_is_not_set_beside_it() -> None:
    with pytest.raises(ConfigError) as error:
        load_settings("finetune", [parse_choice("init=a"), parse_choice("codebook.size=8")])
    assert str(error.value) == (
        "--set codebook.size=8: codebook is that of the tokenizer which init names, and stays; "
        "leave it out"
    )


def test_a_mistake_of_nobody_known_is_that_of_the_file() -> None:
    with pytest.raises(ConfigError) as error:
        check_settings({"steps": 0}, {}, "my.yaml")
    assert str(error.value) == "my.yaml: steps is a whole number of at least 1; got 0"


def test_settings_are_frozen_and_strict() -> None:
    settings = Settings()
    with pytest.raises(pydantic.ValidationError):
        settings.steps = 3  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError):
        Settings(steps="3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "given_network", "expected"),
    [
        ({"size": 64}, {}, {"sample_size": 64}),
        ({"size": 64}, {"sample_size": 128}, {"sample_size": 128}),
        ({"size": 64, "frames": 8}, {}, {"sample_size": 64, "sample_frames": 8}),
    ],
)
def test_the_network_is_as_large_as_its_data(
    data: dict[str, Any], given_network: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert Settings(data=Data(**data), network=given_network).network == expected


def test_defaults_are_each_run_s_own() -> None:
    one, other = Settings(), Settings(data=Data(size=64))
    assert (one.network, other.network) == ({"sample_size": 256}, {"sample_size": 64})
    assert Settings(init="photo-tiny").network == {}

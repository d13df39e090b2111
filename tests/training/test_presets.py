"""The presets, and how files, `--as` and `--set` become settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vqtok.errors import ConfigError, LoadError, UnknownNameError
from vqtok.training.layering import Choice
from vqtok.training.presets import (
    Resolved,
    Variant,
    about,
    load_settings,
    parse_choice,
    presets,
    to_yaml,
)
from vqtok.training.settings import Anneal, Settings
from vqtok.zoo import samples

PAPER = (
    "vqvae_euclid_1024",
    "vqvae_cosine_1024",
    "vqvae_euclid_8192",
    "vqvae_cosine_8192",
    "vqgan_taming_in",
    "vqgan_taming_faces",
    "vqgan_ldm_f4",
    "vqgan_ldm_f8",
    "vitvqgan_small",
    "timesformer_bair",
    "timesformer_ucf101",
)
OURS = (
    "cifar10",
    "finetune",
    "ldm_f8",
    "llamagen_f16",
    "smoke",
    "taming_f16",
    "video_cnn3d",
    "video_timesformer",
    "vit_f8",
)
RELEASED = PAPER[:9]
NAMES = ", ".join(sorted((*PAPER, *OURS)))


def resolved(config: str | Path, *sets: str, variant: Variant = "paper") -> Resolved:
    return load_settings(config, [parse_choice(text) for text in sets], variant=variant)


def settings(config: str | Path, *sets: str, variant: Variant = "paper") -> Settings:
    return resolved(config, *sets, variant=variant).settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return path


# --- the presets ---------------------------------------------------------------------------------


def test_all_are_there() -> None:
    assert sorted(presets()) == sorted((*PAPER, *OURS))


@pytest.mark.parametrize("name", [*PAPER, *OURS])
@pytest.mark.parametrize("variant", ["paper", "repo"])
def test_each_loads_strictly(name: str, variant: Variant) -> None:
    found = resolved(name, variant=variant)
    assert found.settings.name == name
    silent = variant == "paper" or name in RELEASED
    note = f"the preset {name} follows no released code: --as repo changes nothing"
    assert found.notes == ([] if silent else [note])


@pytest.mark.parametrize("name", [*PAPER, *OURS])
def test_settings_survive_their_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for one in (settings(name), settings(name, variant="repo"), Settings(init=name)):
        path.write_text(to_yaml(one), encoding="utf-8")
        assert resolved(path) == (one, [])


@pytest.mark.parametrize("name", [*PAPER, *OURS])
def test_each_says_in_a_line_what_it_is(name: str) -> None:
    assert 20 < len(about(name)) < 100
    assert about(name).startswith("paper, Table ") == (name in PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_are_as_the_paper_had_them(name: str) -> None:
    found = settings(name)
    assert found.estimator == "rotation"
    assert found.estimator_args == {"strict": True}
    assert found.codebook["dead_codes"] == "off"
    assert found.codebook["start"] in ("kaiming", "uniform")
    assert found.average == 0
    assert found.discrepancies
    assert all(len(text) > 30 for text in found.discrepancies)


@pytest.mark.parametrize("name", PAPER)
def test_the_code_s_are_as_the_code_has_them(name: str) -> None:
    found = settings(name, variant="repo")
    if name in PAPER[:4]:
        assert found.codebook["zero_counts"] is True
        assert found.estimator == "rotation"
    elif name in RELEASED:
        assert found.estimator == "rotation_radial_free"
        assert found.estimator_args == {"strict": True}
        legacy = name.startswith("vqgan")
        assert found.codebook.get("legacy_beta", False) == legacy
    else:
        assert found == settings(name)


# name, size, dim, samples a step, steps, rate on paper, rate in the code
TABLE = [
    ("vqvae_euclid_1024", 1024, 32, 256, 25 * 160_000 / 256, 5e-5, 5e-5),
    ("vqvae_cosine_1024", 1024, 32, 256, 25 * 160_000 / 256, 1e-4, 1e-4),
    ("vqvae_euclid_8192", 8192, 3, 256, 20 * 160_000 / 256, 5e-5, 5e-5),
    ("vqvae_cosine_8192", 8192, 3, 256, 20 * 160_000 / 256, 1e-4, 1e-4),
    ("vqgan_taming_in", 1024, 256, 48, 18 * 1_281_167 / 48, 4.5e-6, 48 * 4.5e-6),
    ("vqgan_taming_faces", 1024, 256, 48, 50 * 85_000 / 48, 4.5e-6, 48 * 4.5e-6),
    ("vqgan_ldm_f4", 8192, 3, 16, 4 * 1_281_167 / 16, 4.5e-6, 16 * 4.5e-6),
    ("vqgan_ldm_f8", 16384, 4, 16, 4 * 1_281_167 / 16, 4.5e-6, 16 * 4.5e-6),
    ("vitvqgan_small", 8192, 32, 32, 10 * 1_281_167 / 32, 1e-4, 1e-4),
    ("timesformer_bair", 1024, 32, 24, 30 * 43_264 * 14 / 24, 1e-4, 1e-4),
    ("timesformer_ucf101", 2048, 32, 20, 3 * 9_537 * 171 / 20, 4.5e-6, 4.5e-6),
]


@pytest.mark.parametrize(("name", "size", "dim", "batch", "steps", "paper", "code"), TABLE)
def test_the_paper_s_numbers(
    name: str, size: int, dim: int, batch: int, steps: float, paper: float, code: float
) -> None:
    found = settings(name)
    assert (found.codebook["size"], found.codebook["dim"]) == (size, dim)
    assert found.batch_size == batch
    assert abs(found.steps - steps) < 1
    assert found.optimizer.lr == paper
    repo = settings(name, variant="repo")
    assert repo.optimizer.lr == pytest.approx(code)
    if found.discriminator and repo.discriminator:
        assert found.discriminator.optimizer.lr == paper
        assert repo.discriminator.optimizer.lr == pytest.approx(code)


def test_smoke_trains_on_what_is_in_the_package() -> None:
    assert settings("smoke").data.path == str(samples()[0].parent)
    assert settings("smoke", "data.path=photos").data.path == "photos"


@pytest.mark.parametrize("name", ["smoke", "cifar10"])
def test_neither_smoke_nor_cifar10_needs_weights(name: str) -> None:
    assert settings(name).loss.lpips == 0


# --- files ---------------------------------------------------------------------------------------


def test_a_file_over_a_preset(tmp_path: Path) -> None:
    path = written(tmp_path, "base: ldm_f8\nloss:\n  pixel: {l2: 2}\noptimizer: {lr: 1e-3}\n")
    mine, base = settings(path), settings("ldm_f8")
    assert mine.name == "my"
    assert mine.loss.pixel == {"l2": 2.0}
    assert mine.loss.lpips == base.loss.lpips
    assert mine.optimizer == base.optimizer.model_copy(update={"lr": 1e-3})
    assert mine.codebook == base.codebook


def test_a_file_takes_its_base_s_other_code_over(tmp_path: Path) -> None:
    path = written(
        tmp_path, "base: vqgan_ldm_f8\nas_repo: {codebook: {legacy_beta: false}, steps: 9}\n"
    )
    assert settings(path, variant="repo").codebook["legacy_beta"] is False
    assert settings(path, variant="repo").estimator == "rotation_radial_free"
    assert settings(path, variant="repo").steps == 9
    assert settings(path).steps == settings("vqgan_ldm_f8").steps


def test_another_quantizer_in_a_file_is_said(tmp_path: Path) -> None:
    found = resolved(written(tmp_path, "base: cifar10\nquantizer: simvq\n"))
    assert found.settings.codebook == {"size": 512, "dim": 64}
    assert found.notes == [
        f"{tmp_path / 'my.yaml'}: the settings of the quantizer 'vector' are dropped: "
        "codebook.codebook_update, codebook.decay, codebook.start, codebook.dead_codes, "
        "codebook.commitment_weight, estimator"
    ]


def test_a_file_without_a_base_needs_none(tmp_path: Path) -> None:
    text = "architecture: vit\nquantizer: gumbel\ncodebook: {size: 8, dim: 4}\nestimator: null\n"
    found = resolved(written(tmp_path, text))
    assert (found.settings.quantizer, found.settings.anneal, found.notes) == ("gumbel", {}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: ldm\n", f"base is no preset: 'ldm'. Did you mean 'ldm_f8'? Known: {NAMES}."),
        ("as_repo: 3\n", "a map of settings belongs here; got 3"),
        ("- 3\n", "a file is a map of settings; got [3]"),
        ("", "a file is a map of settings; got None"),
        ("a: 1\nb: [\n", "line 3: expected the node content, but found '<stream end>'"),
        ("base: 3\n", f"base is no preset: 3. Known: {NAMES}."),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        resolved(path, variant="repo")
    message = str(error.value).removeprefix(f"{path}: ").removeprefix(f"{path}, ")
    assert message == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing.yaml", "there is no file nothing.yaml"),
        ("runs/nothing", "there is no file runs/nothing"),
        (
            "vqgan_ldm_f9",
            "there is no preset called 'vqgan_ldm_f9', and no file of that name. "
            f"Did you mean 'vqgan_ldm_f8'? Known: {NAMES}.",
        ),
    ],
)
def test_what_is_not_there(name: str, expected: str) -> None:
    with pytest.raises((LoadError, UnknownNameError)) as error:
        resolved(name)
    assert str(error.value) == expected


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LoadError) as error:
        resolved(path)
    assert str(error.value).startswith(f"{path} cannot be read: 'utf-8' codec can't decode")


# --- --set ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optimizer.lr=1e-4", (("optimizer", "lr"), 1e-4)),
        ("codebook.dead_codes=off", (("codebook", "dead_codes"), "off")),
        ("discriminator=null", (("discriminator",), None)),
        ("data.path=a=b", (("data", "path"), "a=b")),
        ("data.path=[a, b]", (("data", "path"), ["a", "b"])),
        ("loss.pixel={l2: 1}", (("loss", "pixel"), {"l2": 1})),
        (" steps = 3", (("steps",), 3)),
    ],
)
def test_what_set_takes(text: str, expected: tuple[Any, Any]) -> None:
    assert parse_choice(text) == Choice(*expected, f"--set {text}")


@pytest.mark.parametrize("text", ["steps", "", "=3", "a..b=3", ".a=3", "a.=3"])
def test_what_set_does_not_take(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_choice(text)
    assert str(error.value) == (f"--set takes KEY=VALUE, such as optimizer.lr=1e-4; got {text!r}")


def test_a_value_that_is_no_yaml() -> None:
    with pytest.raises(ConfigError) as error:
        parse_choice("data.path=[a")
    assert str(error.value) == "--set data.path=[a: expected ',' or ']', but got '<stream end>'"


def test_set_replaces_a_whole_map() -> None:
    assert settings("smoke", "loss.pixel={l2: 3}").loss.pixel == {"l2": 3.0}
    assert settings("smoke", "loss.pixel.l2=3").loss.pixel == {"l1": 1.0, "l2": 3.0}
    assert settings("smoke", "discriminator=null").discriminator is None
    made = settings("cifar10", "discriminator.weight=0.5").discriminator
    assert made is not None and (made.name, made.weight) == ("patchgan", 0.5)


def test_the_last_of_several_wins() -> None:
    assert settings("smoke", "steps=3", "steps=4").steps == 4


DROPPED = (
    "codebook.codebook_update, codebook.start, codebook.dead_codes, codebook.commitment_weight, "
    "codebook.codebook_weight, estimator, estimator_args.strict"
)


def test_another_quantizer_starts_from_its_own_defaults() -> None:
    found = resolved("vqgan_ldm_f8", "quantizer=gumbel")
    assert found.settings.codebook == {"size": 16384, "dim": 4}
    assert (found.settings.estimator, found.settings.estimator_args) == (None, {})
    assert found.settings.anneal == {
        "temperature": Anneal(start=1.0, end=1 / 16, steps=found.settings.steps)
    }
    assert found.notes == [
        f"--set quantizer=gumbel: the settings of the quantizer 'vector' are dropped: {DROPPED}",
        "--set quantizer=gumbel: its temperature falls from 1 to 1/16 along the run, as in the "
        "paper (anneal.temperature)",
    ]


def test_what_is_set_for_another_quantizer_stays() -> None:
    sets = ("codebook.kl_weight=1e-3", "quantizer=gumbel", "anneal.temperature.end=.5", "steps=10")
    found = resolved("vqgan_ldm_f8", *sets, variant="repo")
    assert found.settings.codebook == {"size": 16384, "dim": 4, "kl_weight": 1e-3}
    assert found.settings.anneal == {"temperature": Anneal(start=1.0, end=0.5, steps=10)}
    dropped = DROPPED.replace(", estimator,", ", codebook.legacy_beta, estimator,")
    assert found.notes == [
        f"--set quantizer=gumbel: the settings of the quantizer 'vector' are dropped: {dropped}"
    ]


def test_the_same_quantizer_keeps_its_settings() -> None:
    assert resolved("vqgan_ldm_f8", "quantizer=vector") == resolved("vqgan_ldm_f8")
    assert resolved("vqgan_ldm_f8", "estimator=rotation") == resolved("vqgan_ldm_f8")


def test_another_estimator_starts_from_its_own_defaults() -> None:
    for name in ("ste", "hessian", "exact"):
        found = resolved("vqvae_euclid_8192", f"estimator={name}")
        assert (found.settings.estimator, found.settings.estimator_args) == (name, {})
        assert found.settings.codebook == settings("vqvae_euclid_8192").codebook
        assert found.notes == [
            f"--set estimator={name}: the settings of the estimator 'rotation' are dropped: "
            "estimator_args.strict"
        ]
    found = resolved("vqvae_euclid_8192", "estimator=reflection", "estimator_args.strict=false")
    assert (found.settings.estimator_args, found.notes) == ({"strict": False}, [])


def test_another_architecture_starts_from_its_own_defaults() -> None:
    found = resolved("cifar10", "architecture=vit", "network.depth=2")
    assert found.settings.network == {"depth": 2, "sample_size": 32}
    assert found.notes == [
        "--set architecture=vit: the settings of the architecture 'conv_residual' are dropped: "
        "network.channels, network.residual_layers, network.residual_channels, "
        "network.downsamplings, network.latent_channels, network.output"
    ]


def test_a_tokenizer_to_go_on_from_brings_its_network() -> None:
    found = resolved("ldm_f8", "init=photo-tiny", "estimator=ste")
    assert (found.settings.network, found.settings.codebook) == ({}, {})
    assert found.settings.estimator == "ste"
    assert found.notes == [
        "--set init=photo-tiny: it has its own, so these are dropped: architecture, network, "
        "quantizer, codebook"
    ]
    assert resolved("finetune", "init=photo-tiny").notes == []
